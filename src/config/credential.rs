//! Secrets of the file: given as a string, or as `{ file = "PATH" }`. No fault repeats one.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::read::Value;
use super::secret::Secret;

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

const SECRET: &str = "a string or { file = \"PATH\" }";

const PEM: &str = "a path, PEM text or { file = \"PATH\" }";

const PEM_EXPECTED: &str = "expected a path, PEM text or { file = \"PATH\" }";

/// What PEM text has and no path.
const PEM_BEGIN: &str = "-----BEGIN";

/// The beginning of a path to one of systemd's credentials.
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";

/// A secret. A string that begins with `$CREDENTIALS_DIRECTORY/` is a path too. One line end of a
/// file is not part of it.
pub(super) fn secret(value: &Value<'_>) -> Option<Secret> {
    let text = if value.raw().is_table() {
        read_file(&file_of(value)?)?
    } else {
        match value.text(SECRET)? {
            path if path.starts_with(CREDENTIALS) => read_file(value)?,
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

/// PEM text that is no secret, and how the file names it: the text itself, a path, or
/// `{ file = "PATH" }`.
pub(super) fn pem_text(value: &Value<'_>) -> Option<(String, String)> {
    if value.raw().is_table() {
        let place = file_of(value)?;
        return Some((place.path()?.display().to_string(), read_file(&place)?));
    }
    match value.text(PEM)? {
        text if text.contains(PEM_BEGIN) => Some((text.to_owned(), text.to_owned())),
        _ => Some((value.path()?.display().to_string(), read_file(value)?)),
    }
}

/// A secret in PEM: the text itself, a path, or `{ file = "PATH" }`. A file that others can read is
/// a warning.
pub(super) fn secret_pem(value: &Value<'_>) -> Option<Secret> {
    let place = if value.raw().is_table() {
        file_of(value)?
    } else {
        match value.text(PEM)? {
            text if text.contains(PEM_BEGIN) => return Some(Secret::new(text.to_owned())),
            _ => value.clone(),
        }
    };
    let path = place.path()?;
    let text = match read_text(&path) {
        Ok(text) => text,
        // What stands here may be the secret, badly copied: it is not repeated.
        Err(problem) => return place.fault(format!("names a file that {problem}"), PEM_EXPECTED),
    };
    warn_of_readers(&place, &path);
    Some(Secret::new(text))
}

/// The value of `file` in `{ file = "PATH" }`.
fn file_of<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    let mut section = value.table()?;
    let file = section.required("file", "expected { file = \"PATH\" }");
    section.finish();
    file
}

/// systemd gives a service its credentials through an access control list, whose mask looks like
/// rights of the group: only rights of all others matter there.
fn warn_of_readers(value: &Value<'_>, path: &Path) {
    const OF_OTHERS: u32 = 0o007;
    const OF_GROUP_AND_OTHERS: u32 = 0o077;
    let is_credential = value
        .raw()
        .as_str()
        .is_some_and(|path| path.starts_with(CREDENTIALS));
    let unwanted = match is_credential {
        true => OF_OTHERS,
        false => OF_GROUP_AND_OTHERS,
    };
    let mode = path.metadata().map_or(0, |file| file.permissions().mode());
    if mode & unwanted != 0 {
        value.warn(
            format!(
                "{} has mode {:04o}, so others than its owner can use it",
                path.display(),
                mode & 0o7777
            ),
            "expected 0600: chmod 600",
        );
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
