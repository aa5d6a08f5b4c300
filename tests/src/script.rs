//! Conformance scripts: reads the files of `tests/scripts`, whose README describes the format.

use std::path::Path;

/// One case of a script.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// File and name.
    pub name: String,
    /// Profiles under which it is played, as configuration spells them.
    pub profiles: Vec<String>,
    /// The listener speaks LMTP.
    pub lmtp: bool,
    /// For the bare session alone.
    pub bare: bool,
    /// Pieces may not be cut.
    pub whole: bool,
    /// Options that differ from the profile's.
    pub options: Vec<(String, String)>,
    /// What is said, in order.
    pub lines: Vec<Line>,
}

/// A line of a dialogue. Consecutive octets of the client are one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The client sends these octets, all of them before anything else is expected.
    Client(Vec<u8>),
    /// A reply is expected.
    Reply(Vec<Expected>),
    /// None is due.
    Nothing,
    /// The server closes.
    Close,
    /// A message was accepted with this envelope (`from to…`) and content.
    Message {
        /// Reverse-path and recipients, separated by spaces.
        envelope: String,
        /// Its octets.
        content: Vec<u8>,
    },
}

/// What a reply has to be under one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The profile; `None` for every other.
    pub profile: Option<String>,
    /// Three digits.
    pub code: String,
    /// Enhanced status.
    pub status: Option<String>,
    /// Held by its text.
    pub text: Option<String>,
}

impl Expected {
    /// The expectation for `profile` among `all`.
    ///
    /// # Panics
    /// When a script expects nothing in particular.
    pub fn for_profile<'e>(all: &'e [Expected], profile: &str) -> &'e Expected {
        let own = all.iter().find(|expected| expected.profile.as_deref() == Some(profile));
        own.or_else(|| all.iter().find(|expected| expected.profile.is_none()))
            .expect("a reply is expected of every profile")
    }

    /// Whether `reply`, with all its lines, is this one.
    pub fn holds(&self, reply: &str) -> bool {
        let Some(last) = reply.lines().last() else { return false };
        let status = last.get(4..).and_then(|text| text.split(' ').next());
        last.starts_with(&self.code)
            && self.status.as_deref().is_none_or(|expected| status == Some(expected))
            && self.text.as_deref().is_none_or(|text| reply.contains(text))
    }
}

/// All cases of all scripts in `folder`, by file name.
///
/// # Panics
/// When the folder cannot be read or a line is not of the format: with its file and number.
pub fn read_all(folder: &Path) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "smtp"))
        .collect();
    files.sort();
    files.iter().flat_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).expect("a script");
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("{file}:{}: {line}", number + 1);
        if let Some(name) = line.strip_prefix("=== ") {
            let profiles = vec!["rfc".to_owned()];
            cases.push(Case { name: format!("{file}: {name}"), profiles, ..Case::default() });
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("{}: before the first case", place()));
        if !case.add(line) {
            panic!("{}: not of the format", place());
        }
    }
    cases
}

impl Case {
    fn add(&mut self, line: &str) -> bool {
        let (kind, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match kind {
            "@profile" => self.profiles = rest.split(' ').map(str::to_owned).collect(),
            "@dialect" => self.lmtp = rest == "lmtp",
            "@bare" => self.bare = true,
            "@whole" => self.whole = true,
            "@option" => {
                let Some((name, value)) = rest.split_once(' ') else { return false };
                self.bare = true;
                self.options.push((name.to_owned(), value.to_owned()));
            }
            "C:" => self.client([rest.as_bytes(), b"\r\n"].concat()),
            "C>" => return unescape(rest).map(|octets| self.client(octets)).is_some(),
            "C*" => {
                let Some((count, octets)) = rest.split_once(' ') else { return false };
                let (Ok(count), Some(octets)) = (count.parse(), unescape(octets)) else { return false };
                self.client(octets.repeat(count));
            }
            "S:" if rest == "nothing" => self.lines.push(Line::Nothing),
            "S:" if rest == "close" => self.lines.push(Line::Close),
            "S:" => {
                let Some(expected) = rest.split(" | ").enumerate().map(expected).collect() else { return false };
                self.lines.push(Line::Reply(expected));
            }
            "M:" => self.lines.push(Line::Message { envelope: rest.to_owned(), content: Vec::new() }),
            "M>" => {
                let (Some(Line::Message { content, .. }), Some(octets)) = (self.lines.last_mut(), unescape(rest))
                else {
                    return false;
                };
                *content = octets;
            }
            _ => return false,
        }
        true
    }

    fn client(&mut self, octets: Vec<u8>) {
        match self.lines.last_mut() {
            Some(Line::Client(piece)) => piece.extend(octets),
            _ => self.lines.push(Line::Client(octets)),
        }
    }
}

/// `250 2.1.0 "text"`, from the second on with its profile in front.
fn expected((place, text): (usize, &str)) -> Option<Expected> {
    let (profile, text) = match place {
        0 => (None, text),
        _ => text.split_once(' ').map(|(profile, text)| (Some(profile.to_owned()), text))?,
    };
    let (codes, held) = text.split_once('"').unwrap_or((text, ""));
    let mut words = codes.split_whitespace();
    let code = words.next().filter(|code| code.len() == 3)?.to_owned();
    let status = words.next().map(str::to_owned);
    let text = held.strip_suffix('"').map(str::to_owned);
    Some(Expected { profile, code, status, text })
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        octets.push(match rest.next()? {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_readme_says() {
        let mut case = Case::default();
        for line in [
            "C: NOOP",
            r"C> a\r\n\0\x7f\\",
            "C* 2 xy",
            "S: 250 2.0.0 \"OK\" | exchange 550 5.1.6",
            "S: close",
            "M: <> b@b.test",
            r"M> x\r\n",
        ] {
            assert!(case.add(line), "{line}");
        }
        assert_eq!(case.lines[0], Line::Client(b"NOOP\r\na\r\n\0\x7f\\xyxy".to_vec()));
        let Line::Reply(expected) = &case.lines[1] else { panic!("a reply") };
        let rfc = Expected::for_profile(expected, "rfc");
        assert!(rfc.holds("250 2.0.0 OK\r\n") && !rfc.holds("250 2.0.0 no\r\n") && !rfc.holds("250 2.0.1 OK\r\n"));
        assert!(Expected::for_profile(expected, "exchange").holds("550 5.1.6 x\r\n"));
        assert_eq!(case.lines[3], Line::Message { envelope: "<> b@b.test".into(), content: b"x\r\n".to_vec() });
        for bad in ["X", "S: 25", r"C> \q", "C* x y", "@option size_max", "M> before"] {
            assert!(!Case::default().add(bad), "{bad}");
        }
    }
}
