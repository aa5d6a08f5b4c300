//! Which folder an address is delivered to (S-031: the folder comes from the directory, never from the address).

use std::cmp::Ordering;

/// Addresses and their folders. Looking one up allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mailboxes {
    /// Sorted by domain, then local part, both without regard to ASCII case.
    exact: Vec<Entry>,
    /// Whole domains, sorted; their local part is empty.
    domains: Vec<Entry>,
    /// Everybody else.
    rest: Option<String>,
    /// Postmaster, where nothing else is said about him.
    postmaster: Option<String>,
}

/// Postmaster's folder unless another is named (M-030).
const POSTMASTER: &str = "postmaster";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    local: String,
    domain: String,
    folder: String,
}

/// Whom an entry is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// `local@domain`.
    Mailbox(String, String),
    /// `*@domain`.
    Domain(String),
    /// `*`.
    Everybody,
    /// `postmaster`, without a domain: at each domain of ours that says nothing else, and at none (M-030).
    Postmaster,
}

impl Mailboxes {
    /// Adds or replaces the folder of `owner`.
    pub fn put(&mut self, owner: Owner, folder: String) {
        let (list, local, domain) = match owner {
            Owner::Everybody => {
                self.rest = Some(folder);
                return;
            }
            Owner::Postmaster => {
                self.postmaster = Some(folder);
                return;
            }
            Owner::Domain(domain) => (&mut self.domains, String::new(), domain),
            Owner::Mailbox(local, domain) => (&mut self.exact, local, domain),
        };
        match list.binary_search_by(|entry| entry.against(local.as_bytes(), domain.as_bytes())) {
            Ok(at) => list[at].folder = folder,
            Err(at) => list.insert(at, Entry { local, domain, folder }),
        }
    }

    /// The folder that mail for `local@domain` is put in: the address itself, else its domain's, else the rest's. Case
    /// does not matter in either part.
    pub fn folder(&self, local: &[u8], domain: &[u8]) -> Option<&str> {
        let find = |list: &'_ [Entry], local: &[u8]| list.binary_search_by(|entry| entry.against(local, domain)).ok();
        if let Some(entry) = find(&self.exact, local).and_then(|at| self.exact.get(at)) {
            return Some(&entry.folder);
        }
        if let Some(entry) = find(&self.domains, b"").and_then(|at| self.domains.get(at)) {
            return Some(&entry.folder);
        }
        self.rest.as_deref()
    }

    /// Where postmaster's mail is put that [`Mailboxes::folder`] knows no folder for.
    pub fn postmaster(&self) -> &str {
        self.postmaster.as_deref().unwrap_or(POSTMASTER)
    }

    /// Whether anybody at this domain is named.
    pub fn has_domain(&self, domain: &[u8]) -> bool {
        let known = |list: &[Entry]| {
            let at = list.partition_point(|entry| without_case(entry.domain.as_bytes(), domain).is_lt());
            list.get(at).is_some_and(|entry| entry.domain.as_bytes().eq_ignore_ascii_case(domain))
        };
        known(&self.exact) || known(&self.domains)
    }

    /// Every domain at which anybody is named, each as often as it is.
    pub fn domain_names(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().chain(&self.domains).map(|entry| entry.domain.as_str())
    }

    /// Whether there is no mailbox.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.domains.is_empty() && self.rest.is_none() && self.postmaster.is_none()
    }
}

impl Entry {
    fn against(&self, local: &[u8], domain: &[u8]) -> Ordering {
        without_case(self.domain.as_bytes(), domain).then_with(|| without_case(self.local.as_bytes(), local))
    }
}

fn without_case(ours: &[u8], theirs: &[u8]) -> Ordering {
    ours.iter().map(u8::to_ascii_lowercase).cmp(theirs.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_031_a_folder_comes_from_the_directory_and_never_from_the_address() {
        let mut mailboxes = Mailboxes::default();
        assert!(mailboxes.is_empty());
        for (local, domain, folder) in [
            ("ann", "b.test", "ann-b"),
            ("Ann", "a.test", "ann-a"),
            ("bob", "a.test", "bob"),
            ("ann", "A.test", "ann-new"),
        ] {
            mailboxes.put(Owner::Mailbox(local.into(), domain.into()), folder.into());
        }
        mailboxes.put(Owner::Domain("a.test".into()), "all-a".into());
        let found = |address: &str| {
            let (local, domain) = address.rsplit_once('@').expect("an address");
            mailboxes.folder(local.as_bytes(), domain.as_bytes())
        };
        for (address, folder) in [
            ("ann@a.test", Some("ann-new")),
            ("ANN@A.TEST", Some("ann-new")),
            ("bob@a.test", Some("bob")),
            ("ann@b.test", Some("ann-b")),
            ("eve@a.test", Some("all-a")),
            ("eve@b.test", None),
            ("../../x@b.test", None),
            ("../../x@a.test", Some("all-a")),
            ("@b.test", None),
        ] {
            assert_eq!(found(address), folder, "{address}");
        }
        mailboxes.put(Owner::Everybody, "rest".into());
        assert_eq!(mailboxes.folder(b"eve", b"b.test"), Some("rest"));
    }

    #[test]
    fn m_030_postmaster_has_a_folder_and_domains_are_known() {
        let mut mailboxes = Mailboxes::default();
        assert_eq!(mailboxes.postmaster(), "postmaster");
        for domain in ["c.test", "a.test"] {
            mailboxes.put(Owner::Mailbox("zoe".into(), domain.into()), "zoe".into());
        }
        mailboxes.put(Owner::Domain("B.test".into()), "all".into());
        for (domain, known) in
            [("a.test", true), ("C.TEST", true), ("b.test", true), ("d.test", false), ("test", false), ("", false)]
        {
            assert_eq!(mailboxes.has_domain(domain.as_bytes()), known, "{domain}");
        }
        assert_eq!(mailboxes.domain_names().collect::<Vec<_>>(), ["a.test", "c.test", "B.test"]);
        mailboxes.put(Owner::Postmaster, "ann".into());
        assert_eq!(mailboxes.postmaster(), "ann");
    }
}
