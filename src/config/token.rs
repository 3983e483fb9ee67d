//! Callers' tokens: only their SHA-256 stands in the file.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::grant::TokenHash;

/// Bytes of a generated token.
const TOKEN_BYTES: usize = 32;

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("no random bytes from the system: {0}")]
pub struct NoRandom(getrandom::Error);

/// The hash of a token as it was read from a file or a pipe: one line end (`\n` or `\r\n`) is not
/// part of it.
#[must_use]
pub fn hash_token(input: &[u8]) -> TokenHash {
    let line = input.strip_suffix(b"\n").unwrap_or(input);
    let token = match line.len() < input.len() {
        true => line.strip_suffix(b"\r").unwrap_or(line),
        false => line,
    };
    TokenHash(Sha256::digest(token).into())
}

/// A token of 256 random bits, in letters, digits, `-` and `_`: safe in a URL's user information.
///
/// # Errors
/// [`NoRandom`] if the system has no random bytes to give.
pub fn generate_token() -> Result<String, NoRandom> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(NoRandom)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// SHA-256 of `bytes` in lower-case hexadecimal.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

impl TokenHash {
    /// The hash as the file writes it: 64 hexadecimal digits in lower case.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// Reads 64 hexadecimal digits of either case; `None` if it is anything else.
    #[must_use]
    pub fn from_hex(digits: &str) -> Option<Self> {
        let digits: &[u8; 64] = digits.as_bytes().try_into().ok()?;
        let mut hash = [0_u8; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        Some(Self(hash))
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc`: FIPS 180-4, example B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_line_end_is_not_part_of_a_token() {
        for input in ["abc", "abc\n", "abc\r\n"] {
            assert_eq!(hash_token(input.as_bytes()).to_hex(), ABC, "{input:?}");
        }
        for other in ["abc\r", "abc\n\n", " abc", "abc "] {
            assert_ne!(hash_token(other.as_bytes()).to_hex(), ABC, "{other:?}");
        }
    }

    #[test]
    fn hexadecimal_is_read_back() {
        let hash = TokenHash::from_hex(ABC).expect("64 digits");
        assert_eq!(hash.to_hex(), ABC);
        assert_eq!(TokenHash::from_hex(&ABC.to_uppercase()), Some(hash));
        for bad in ["", &ABC[1..], &format!("{ABC}0"), &ABC.replace('b', "g")] {
            assert_eq!(TokenHash::from_hex(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn generated_tokens_are_long_distinct_and_plain() {
        let one = generate_token().expect("random");
        let other = generate_token().expect("random");
        assert_ne!(one, other);
        assert_eq!(one.len(), 43, "256 bits in base64");
        assert!(
            one.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        );
    }
}
