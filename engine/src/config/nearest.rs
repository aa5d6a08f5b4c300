//! The name that somebody probably meant.

/// The name among `names` that is nearest to `typed`: at most two slips away, and no more than a third of it.
pub(super) fn nearest<'n>(typed: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let typed = typed.to_ascii_lowercase().replace('-', "_");
    let bound = (typed.chars().count() / 3).clamp(1, 2);
    names
        .into_iter()
        .map(|name| (slips(&typed, &name.replace('-', "_")), name))
        .filter(|(slips, _)| *slips <= bound)
        .min()
        .map(|(_, name)| name)
}

/// Letters to insert, remove, change, or swap with their neighbour, to turn one word into the other.
fn slips(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (row, letter) in from.chars().enumerate() {
        let mut line = Vec::with_capacity(above.len());
        line.push(row + 1);
        for (column, other) in to.iter().enumerate() {
            let changed = above[column] + usize::from(letter != *other);
            let mut least = changed.min(above[column + 1] + 1).min(line[column] + 1);
            if column > 0 && last == Some(*other) && to[column - 1] == letter {
                least = least.min(before[column - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut above, line);
        last = Some(letter);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_forgiven_and_a_different_word_is_not() {
        let names = ["size_max", "shards", "fqdn", "memory_budget", "role"];
        for (typed, meant) in [
            ("size_mx", Some("size_max")),
            ("sizemax", Some("size_max")),
            ("size-max", Some("size_max")),
            ("Shards", Some("shards")),
            ("shrads", Some("shards")),
            ("fqnd", Some("fqdn")),
            ("memorybudgett", Some("memory_budget")),
            ("rol", Some("role")),
            ("x", None),
            ("", None),
            ("listen", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
    }

    #[test]
    fn slips_are_counted_once() {
        for (from, to, count) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("ab", "ba", 1), ("abc", "abd", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(slips(from, to), count, "{from} {to}");
            assert_eq!(slips(to, from), count, "{to} {from}");
        }
    }
}
