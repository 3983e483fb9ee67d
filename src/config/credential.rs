//! Secrets of the file: given as a string, or as `{ file = "PATH" }`. No fault repeats one.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::read::Value;
use super::secret::Secret;

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

const SECRET: &str = "a string or { file = \"PATH\" }";

/// A secret. A string that begins with `$CREDENTIALS_DIRECTORY/` is a path too. One line end of a
/// file is not part of it.
pub(super) fn secret(value: &Value<'_>) -> Option<Secret> {
    let text = if value.raw().is_table() {
        let mut section = value.table()?;
        let file = section.required("file", "expected { file = \"PATH\" }");
        section.finish();
        read_file(&file?)?
    } else {
        match value.text(SECRET)? {
            path if path.starts_with("$CREDENTIALS_DIRECTORY/") => read_file(value)?,
            text => text.to_owned(),
        }
    };
    if text.is_empty() {
        return value.fault("is an empty secret", format!("expected {SECRET}"));
    }
    Some(Secret::new(text))
}

/// A secret that is a URL of one of these schemes.
pub(super) fn secret_url(value: &Value<'_>, schemes: &[&str]) -> Option<Secret> {
    let secret = secret(value)?;
    let scheme = secret
        .expose()
        .split_once("://")
        .filter(|(_, rest)| !rest.is_empty());
    match scheme {
        Some((scheme, _)) if schemes.contains(&scheme) => Some(secret),
        _ => {
            let allowed: Vec<_> = schemes
                .iter()
                .map(|scheme| format!("{scheme}://"))
                .collect();
            value.fault(
                "is not such a URL",
                format!("expected {}", allowed.join(" or ")),
            )
        }
    }
}

fn read_file(value: &Value<'_>) -> Option<String> {
    let path = value.path()?;
    match read_text(&path) {
        Ok(text) => Some(text),
        Err(problem) => value.fault(
            format!("{} {problem}", path.display()),
            "expected a readable file that holds the secret",
        ),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("is longer than {SECRET_BYTES_MAX} bytes"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
