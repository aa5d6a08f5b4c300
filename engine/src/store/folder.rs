//! Names of mailbox folders that are safe in a path, whatever text they come from (S-031).

use std::fmt;
use std::fmt::Write as _;

/// Octets of a folder's name as it stands in the file system.
pub const FOLDER_NAME_BYTES_MAX: usize = 255;

/// A name that is one component of a path and nothing else: letters, digits, `-`, `_`, `@`, `+`, `=`, `.` (not in front),
/// and every other octet as `%` with two upper-case hexadecimal digits. Different texts have different names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderName(Box<str>);

/// Why a text names no folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFolder {
    /// Nothing is named.
    #[error("is empty")]
    Empty,
    /// `.`, `..`, or hidden.
    #[error("begins with a dot")]
    Dot,
    /// It would be a path, or end one early.
    #[error("holds a slash or a NUL")]
    Separator,
    /// Longer than a file system takes, once escaped.
    #[error("is longer than {FOLDER_NAME_BYTES_MAX} octets when escaped")]
    Long,
}

impl FolderName {
    /// The folder for `text`.
    ///
    /// # Errors
    /// When no escaping makes it a safe name.
    pub fn new(text: &str) -> Result<Self, BadFolder> {
        if text.is_empty() {
            return Err(BadFolder::Empty);
        }
        if text.starts_with('.') {
            return Err(BadFolder::Dot);
        }
        if text.bytes().any(|octet| matches!(octet, b'/' | 0)) {
            return Err(BadFolder::Separator);
        }
        if text.len() > FOLDER_NAME_BYTES_MAX {
            return Err(BadFolder::Long);
        }
        let mut name = String::with_capacity(text.len());
        for octet in text.bytes() {
            match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'@' | b'+' | b'=' | b'.' => {
                    name.push(char::from(octet));
                }
                // Writing to a String cannot fail.
                _ => _ = write!(name, "%{octet:02X}"),
            }
        }
        if name.len() > FOLDER_NAME_BYTES_MAX { Err(BadFolder::Long) } else { Ok(Self(name.into())) }
    }

    /// The name as it stands in the file system.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    fn folder(text: &str) -> Result<String, BadFolder> {
        FolderName::new(text).map(|name| name.to_string())
    }

    #[test]
    fn s_031_what_could_leave_the_store_names_no_folder() {
        for (text, why) in [
            ("", BadFolder::Empty),
            (".", BadFolder::Dot),
            ("..", BadFolder::Dot),
            ("...", BadFolder::Dot),
            (".ssh", BadFolder::Dot),
            ("../../x@dom", BadFolder::Dot),
            ("../x", BadFolder::Dot),
            ("/etc/passwd", BadFolder::Separator),
            ("a/b", BadFolder::Separator),
            ("a/..", BadFolder::Separator),
            ("x\0y", BadFolder::Separator),
        ] {
            assert_eq!(folder(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn s_031_names_of_more_than_255_octets_are_refused() {
        assert_eq!(folder(&"a".repeat(255)).map(|name| name.len()), Ok(255));
        assert_eq!(folder(&"a".repeat(256)), Err(BadFolder::Long));
        assert_eq!(folder(&" ".repeat(85)).map(|name| name.len()), Ok(255));
        assert_eq!(folder(&" ".repeat(86)), Err(BadFolder::Long), "escaping counts");
    }

    #[test]
    fn f_144_addresses_that_are_tricks_become_plain_names() {
        for (text, name) in [
            ("ann", "ann"),
            ("ann@a.test", "ann@a.test"),
            ("Ann+list=x", "Ann+list=x"),
            (";cmd", "%3Bcmd"),
            ("|prog", "%7Cprog"),
            ("$(reboot)", "%24%28reboot%29"),
            ("`x`", "%60x%60"),
            ("a\r\nRCPT TO:<x>", "a%0D%0ARCPT%20TO%3A%3Cx%3E"),
            ("a\\..\\b", "a%5C..%5Cb"),
            ("100%", "100%25"),
            ("a%2Fb", "a%252Fb"),
            ("-rf", "-rf"),
            ("~root", "%7Eroot"),
            ("é", "%C3%A9"),
            ("a:2,S", "a%3A2%2CS"),
        ] {
            assert_eq!(folder(text).as_deref(), Ok(name), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn s_031_a_name_is_one_plain_component_and_tells_its_text(one in ".{0,40}", two in ".{0,40}") {
            let names = (FolderName::new(&one), FolderName::new(&two));
            if let Ok(name) = &names.0 {
                let components: Vec<Component<'_>> = Path::new(name.as_str()).components().collect();
                prop_assert!(matches!(components[..], [Component::Normal(_)]));
                prop_assert!(name.as_str().bytes().all(|octet| octet.is_ascii_graphic() && octet != b'/'));
            }
            if let (Ok(first), Ok(second)) = names {
                prop_assert_eq!(one == two, first == second);
            }
        }
    }
}
