//! Where each key was said: kept for what only the start of a server finds out, such as an address that is taken.

use super::problem::Origin;
use std::collections::BTreeMap;

/// Where each key of a configuration was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The file, if there is one.
    pub(super) file: Option<String>,
    /// By dotted name.
    pub(super) said: BTreeMap<String, Origin>,
}

impl Places {
    /// `line` with its place in front, where it begins with a key as `server.data_dir: `; any other line as it is.
    pub fn locate(&self, line: String) -> String {
        let key = line.split_once(": ").map(|(key, _)| key).filter(|key| is_key(key));
        match key.and_then(|key| self.origin_of(key)) {
            Some(origin) => format!("{origin}: {line}"),
            None => line,
        }
    }

    /// Where `key` was said; else the nearest section above it, else the beginning of the file.
    fn origin_of(&self, key: &str) -> Option<Origin> {
        if let Some(flag) = key.starts_with("listener[").then(|| self.said.get("listener.address")).flatten() {
            // A flag has replaced what the file says.
            return Some(flag.clone());
        }
        let mut above = Some(key);
        while let Some(key) = above {
            if let Some(origin) = self.said.get(key) {
                return Some(origin.clone());
            }
            above = key.rsplit_once('.').map(|(above, _)| above);
        }
        self.file.clone().map(|name| Origin::File { name, line: 1, column: 1 })
    }
}

/// A section and a key of it: `server.admin`, `listener[0].address`.
fn is_key(text: &str) -> bool {
    let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_[].".contains(c);
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.contains('.') && text.chars().all(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_start_finds_is_told_with_its_place() {
        let file = |line, column| Origin::File { name: "r.toml".into(), line, column };
        let said = [
            ("server", file(1, 2)),
            ("server.admin", file(3, 9)),
            ("server.metrics", Origin::Flag("--metrics")),
            ("listener[1].address", file(9, 11)),
        ];
        let said = said.map(|(key, origin)| (key.to_owned(), origin));
        let mut places = Places { file: Some("r.toml".into()), said: said.into() };
        for (line, told) in [
            ("server.admin: cannot listen; x", "r.toml:3:9: server.admin: cannot listen; x"),
            ("server.metrics: taken; x", "--metrics: server.metrics: taken; x"),
            ("server.user: root; x", "r.toml:1:2: server.user: root; x"),
            ("store.path: gone; x", "r.toml:1:1: store.path: gone; x"),
            ("listener[1].address: taken; x", "r.toml:9:11: listener[1].address: taken; x"),
            ("127.0.0.1: no key; x", "127.0.0.1: no key; x"),
            ("shards.of it: no key", "shards.of it: no key"),
            ("no key", "no key"),
        ] {
            assert_eq!(places.locate(line.to_owned()), told);
        }
        places.said.insert("listener.address".into(), Origin::Flag("--listen"));
        let line = "listener[1].address: taken";
        assert_eq!(places.locate(line.into()), format!("--listen: {line}"), "the flag holds");
        assert_eq!(Places::default().locate(line.into()), line, "there is no file");
    }
}
