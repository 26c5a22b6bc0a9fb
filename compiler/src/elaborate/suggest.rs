//! "did you mean": the nearest of the names that would have been accepted.

/// The nearest candidate, if one is near enough to be worth saying.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    let scored = candidates.into_iter().filter(|c| *c != word).map(|c| (distance(word, c), c));
    let best = scored.filter(|(d, c)| *d <= limit && *d < c.chars().count().max(2));
    best.min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

/// Edits, and swaps of neighbours, that turn one word into the other.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("deph", ["dim", "depth", "heads"]), Some("depth"));
        assert_eq!(nearest("encodr", ["encoder", "predictor"]), Some("encoder"));
        assert_eq!(nearest("zzz", ["encoder", "predictor"]), None);
        assert_eq!(distance("keys", "kesy"), 1);
    }
}
