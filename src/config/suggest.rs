//! Which key was meant.

/// The known key that `name` was meant to be.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let name = name.to_lowercase().replace('-', "_");
    let distances = known.iter().map(|known| (distance(&name, known), *known));
    let (distance, nearest) = distances.min()?;
    (distance <= 1 + nearest.len() / 4).then_some(nearest)
}

/// Levenshtein's distance, in characters; words of more than 64 are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["concurrency", "headroom", "token_sha256", "rate"];
        assert_eq!(nearest("concurency", &known), Some("concurrency"));
        assert_eq!(nearest("token-sha256", &known), Some("token_sha256"));
        assert_eq!(nearest("Rate", &known), Some("rate"));
        assert_eq!(nearest("banana", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }
}
