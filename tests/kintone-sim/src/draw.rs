//! Numbers and identifiers that look random and can be drawn again.

use std::sync::atomic::{AtomicU64, Ordering};

/// The `n`-th draw of a seed (SplitMix64).
pub(crate) fn nth(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// An identifier that no other call of this process gets: so many characters of `A-Za-z0-9`, as in kintone's errors.
pub(crate) fn identifier(length: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let (mut text, mut n) = (String::with_capacity(length), next());
    for place in 0..length {
        if place % 10 == 0 {
            n = nth(n, 1);
        }
        text.push(char::from(LETTERS[(n % 62) as usize]));
        n /= 62;
    }
    text
}

/// A key of an uploaded file: the form of a UUID.
pub(crate) fn uuid() -> String {
    let n = next();
    let (high, low) = (nth(n, 1), nth(n, 2));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    nth(0x6b69_6e74_6f6e_6531, NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_differ_and_have_their_length() {
        let (a, b) = (identifier(20), identifier(20));
        assert_eq!((a.len(), b.len()), (20, 20));
        assert_ne!(a, b);
        assert_eq!(uuid().len(), 36);
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        assert_eq!(nth(7, 3), nth(7, 3));
        assert_ne!(nth(7, 3), nth(8, 3));
    }
}
