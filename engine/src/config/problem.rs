//! What is wrong with a configuration: where, what, and what would be right, in one line.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the server may start all the same.
    pub weight: Weight,
    /// Where it stands.
    pub origin: Origin,
    /// The key it is about, dotted; empty when it is about none.
    pub key: String,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The server does not start.
    Error,
    /// It starts; somebody should know.
    Warning,
}

/// Where a problem stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In a file.
    File {
        /// Its name as it was given.
        name: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// In a flag of the command line, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if self.weight == Weight::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.wrong, self.right)
    }
}

/// A problem on the way from a value to its place: it knows what and which octets, not yet in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub at: Range<usize>,
    pub wrong: String,
    pub right: String,
}

/// Line and column (in characters), from 1, of the octet `at` of `text`; the end where it is beyond.
pub fn position(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

/// The line of `text` that `problem` stands in, with a mark under the place.
pub fn picture(text: &str, line: usize, column: usize) -> Option<String> {
    let shown = text.lines().nth(line.checked_sub(1)?)?;
    let number = line.to_string();
    let pad = " ".repeat(number.len());
    let under: String =
        shown.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    Some(format!("{pad} |\n{number} | {shown}\n{pad} | {under}^"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a = 1\nbü = 2\n\nc";
        for (at, line, column) in [
            (0, 1, 1),
            (4, 1, 5),
            (5, 1, 6),
            (6, 2, 1),
            (7, 2, 2),
            (8, 2, 2),
            (9, 2, 3),
            (14, 3, 1),
            (15, 4, 1),
            (99, 4, 2),
        ] {
            assert_eq!(position(text, at), (line, column), "octet {at}");
        }
        assert_eq!(position("", 0), (1, 1));
    }

    #[test]
    fn the_picture_marks_the_place() {
        assert_eq!(picture("x\n\tshards = 0\n", 2, 11).as_deref(), Some("  |\n2 | \tshards = 0\n  | \t         ^"));
        assert_eq!(picture("x", 7, 1), None);
    }

    #[test]
    fn a_problem_is_one_line() {
        let problem = Problem {
            weight: Weight::Error,
            origin: Origin::File { name: "r.toml".into(), line: 3, column: 10 },
            key: "server.shards".into(),
            wrong: "0 is too small".into(),
            right: "write a number from 1 to 256".into(),
        };
        assert_eq!(problem.to_string(), "r.toml:3:10: server.shards: 0 is too small; write a number from 1 to 256");
        let flag = Problem { weight: Weight::Warning, origin: Origin::Flag("--shards"), key: String::new(), ..problem };
        assert_eq!(flag.to_string(), "--shards: warning: 0 is too small; write a number from 1 to 256");
    }
}
