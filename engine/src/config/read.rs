//! From the octets of a file to a draft of the settings. Reading goes on behind every problem.

use super::keys::{self, Key, ListenerText, ServerText};
use super::kinds::{Kind, Value, quoted};
use super::nearest::nearest;
use super::places::{is_domain, toml_name};
use super::problem::{Complaint, Origin, Problem, Weight, position};
use super::said::Places;
use crate::settings::*;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Next hops, routes, listeners of one file.
const ENTRIES_MAX: usize = 10_000;
/// Mailboxes of one file.
const MAILBOXES_MAX: usize = 1_000_000;

/// What a file and the flags said so far.
pub(super) struct Draft<'t> {
    pub settings: Settings,
    pub server: ServerText,
    pub listeners: Vec<ListenerDraft<'t>>,
}

/// A listener and its complete limits.
pub(super) struct ListenerDraft<'t> {
    /// Its dotted name in messages.
    pub path: String,
    pub text: ListenerText,
    pub receive: Receive,
    /// What the file says of it alone.
    pub own: DeTable<'t>,
}

/// Reads one file, remembering where everything stood.
pub(super) struct Reader<'t> {
    /// The file's name and text; `None` when there are only flags.
    file: Option<(&'t str, &'t str)>,
    /// Everything wrong so far.
    pub problems: Vec<Problem>,
    /// Where each key's value stood, by dotted name.
    places: BTreeMap<String, Origin>,
    /// Whether the file is no TOML, so that what it lacks is not worth saying.
    pub torn: bool,
    /// What `[receive]` says, for listeners that come later.
    receive: Option<DeTable<'t>>,
}

impl<'t> Reader<'t> {
    pub fn new(file: Option<(&'t str, &'t str)>) -> Reader<'t> {
        Reader { file, problems: Vec::new(), places: BTreeMap::new(), torn: false, receive: None }
    }

    /// Reads the file, if there is one, over the defaults of its profile or of `profile` where a flag names one.
    pub fn draft(&mut self, profile: Option<Profile>) -> Draft<'t> {
        let text = self.file.map_or("", |(_, text)| text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().unwrap_or(0..0);
            let wrong = error.message().lines().next().unwrap_or("the file is not TOML").to_owned();
            self.wrong("", at, wrong, "mend the TOML here".into());
        }
        self.torn = !errors.is_empty();
        let root = if errors.is_empty() { root.into_inner() } else { DeTable::new() };
        let written = root.get("profile").and_then(|value| self.take("profile", &keys::PROFILE, value));
        let settings = Settings::of(profile.or(written).unwrap_or(Profile::Exchange));
        let mut draft = Draft { server: ServerText::of(&settings.server), settings, listeners: Vec::new() };
        self.root(&root, &mut draft);
        draft
    }

    fn root(&mut self, root: &DeTable<'t>, draft: &mut Draft<'t>) {
        let tables = keys::tables();
        for name in root.keys() {
            let path = name.get_ref().as_ref();
            self.places.insert(path.to_owned(), self.origin(name.span()));
            match path {
                "profile" => {}
                "listener" | "mailboxes" | "routes" | "next_hop" => {}
                _ if tables.iter().any(|(table, _)| *table == path) => {}
                _ => self.unknown_table(path, name.span(), &tables),
            }
        }
        let settings = &mut draft.settings;
        self.receive = root.get("receive").and_then(|value| value.get_ref().as_table()).cloned();
        self.section(root, "server", keys::SERVER, &mut draft.server);
        self.section(root, "receive", keys::RECEIVE, &mut settings.receive);
        self.section(root, "delivery", keys::DELIVERY, &mut settings.delivery);
        self.section(root, "access", keys::ACCESS, &mut settings.access);
        self.section(root, "frontend", keys::FRONTEND, &mut settings.hubs);
        self.section(root, "store", keys::STORE, settings);
        self.section(root, "spool", keys::SPOOL, &mut settings.spool);
        self.section(root, "log", keys::LOG, &mut settings.log);
        self.next_hops(root, settings);
        self.routes(root, &mut settings.routes);
        self.mailboxes(root, &mut settings.mailboxes);
        self.listeners(root, draft);
    }

    /// The limits of a listener of this role, as the profile, `[receive]`, and the listener's `own` section have them.
    pub fn receive_for(&self, profile: Profile, role: Role, own: &DeTable<'t>) -> Receive {
        let mut receive = Receive::of(profile, role);
        for (name, value) in self.receive.iter().chain([own]).flatten() {
            // What is wrong there is said when the section itself is read.
            if let Some(key) = keys::RECEIVE.iter().find(|key| key.name == name.get_ref().as_ref()) {
                let _said = (key.read)(&mut receive, value);
            }
        }
        receive
    }

    fn section<S>(&mut self, root: &DeTable<'t>, name: &str, keys: &[Key<S>], into: &mut S) {
        let Some(value) = root.get(name) else { return };
        let Some(table) = value.get_ref().as_table() else {
            let wrong = format!("{name} is a section");
            return self.wrong(name, value.span(), wrong, format!("write [{name}] on a line of its own"));
        };
        for (key, value) in table {
            match keys.iter().find(|known| known.name == key.get_ref().as_ref()) {
                Some(known) => self.put(name, known, into, value),
                None => self.unknown_key(name, key, name),
            }
        }
    }

    fn put<S>(&mut self, section: &str, key: &Key<S>, into: &mut S, value: &Value<'_>) {
        let path = format!("{section}.{}", key.name);
        self.places.insert(path.clone(), self.origin(value.span()));
        let complaints = (key.read)(into, value);
        self.complain(&path, complaints);
    }

    fn take<K: Kind>(&mut self, path: &str, kind: &K, value: &Value<'_>) -> Option<K::Out> {
        self.places.insert(path.to_owned(), self.origin(value.span()));
        kind.read(value).map_err(|complaints| self.complain(path, complaints)).ok()
    }

    fn listeners(&mut self, root: &DeTable<'t>, draft: &mut Draft<'t>) {
        let Some(value) = root.get("listener") else { return };
        let Some(items) = value.get_ref().as_array() else {
            let right = "write [[listener]] on a line of its own, once for each".into();
            return self.wrong("listener", value.span(), "listener is a list of sections".into(), right);
        };
        for (index, item) in items.iter().enumerate() {
            let path = format!("listener[{index}]");
            let Some(table) = item.get_ref().as_table() else {
                self.wrong(&path, item.span(), "is not a section".into(), "write [[listener]]".into());
                continue;
            };
            self.places.insert(path.clone(), self.origin(item.span()));
            let listener = self.listener(path, table, draft.settings.profile);
            draft.listeners.push(listener);
        }
    }

    fn listener(&mut self, path: String, table: &DeTable<'t>, profile: Profile) -> ListenerDraft<'t> {
        let mut text = ListenerText { address: None, role: None, protocol: Protocol::Smtp };
        for key in keys::LISTENER {
            if let Some(value) = table.get(key.name) {
                self.put(&path, key, &mut text, value);
            }
        }
        let mut receive = self.receive_for(profile, text.role.unwrap_or(Role::Hub), table);
        for (name, value) in table {
            let name_text = name.get_ref().as_ref();
            if let Some(key) = keys::RECEIVE.iter().find(|key| key.name == name_text) {
                self.put(&path, key, &mut receive, value);
            } else if !keys::LISTENER.iter().any(|key| key.name == name_text) {
                self.unknown_key(&path, name, "listener");
            }
        }
        for (missing, name) in [(text.address.is_none(), "address"), (text.role.is_none(), "role")] {
            if missing && !table.contains_key(name) {
                let rule = keys::LISTENER.iter().find(|key| key.name == name).map(|key| (key.rule)());
                let right = format!("write {name} = {}", rule.unwrap_or_default());
                let origin = self.origin_of(&path);
                self.push(Weight::Error, origin, path.clone(), format!("has no {name}"), right);
            }
        }
        ListenerDraft { path, text, receive, own: table.clone() }
    }

    /// The entries of a table whose keys are names that the user chooses.
    fn named<'r>(&mut self, root: &'r DeTable<'t>, name: &str, most: usize) -> Option<&'r DeTable<'t>> {
        let value = root.get(name)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(name, value.span(), format!("{name} is a section"), format!("write [{name}]"));
            return None;
        };
        if table.len() > most {
            let wrong = format!("{} entries are too many", table.len());
            self.wrong(name, value.span(), wrong, format!("write at most {most}"));
            return None;
        }
        Some(table)
    }

    fn next_hops(&mut self, root: &DeTable<'t>, settings: &mut Settings) {
        let Some(table) = self.named(root, "next_hop", ENTRIES_MAX) else { return };
        for (name, value) in table {
            let path = format!("next_hop.{}", name.get_ref());
            let Some(hop) = value.get_ref().as_table() else {
                self.wrong(&path, value.span(), "is not a section".into(), format!("write [{path}] and hosts = [...]"));
                continue;
            };
            self.places.insert(path.clone(), self.origin(name.span()));
            if !toml_name(name.get_ref()) {
                let right = "write letters, digits, - and _, at most 64".into();
                self.wrong(&path, name.span(), "is no name for a next hop".into(), right);
            }
            let mut found = NextHop::of(Vec::new(), Protocol::Smtp);
            for (key, value) in hop {
                match keys::NEXT_HOP.iter().find(|known| known.name == key.get_ref().as_ref()) {
                    Some(known) => self.put(&path, known, &mut found, value),
                    None => self.unknown_key(&path, key, "next_hop"),
                }
            }
            settings.next_hops.insert(name.get_ref().to_string(), found);
        }
    }

    fn routes(&mut self, root: &DeTable<'t>, routes: &mut Routes) {
        let Some(table) = self.named(root, "routes", ENTRIES_MAX) else { return };
        for (pattern, value) in table {
            let domain = pattern.get_ref().to_ascii_lowercase();
            let path = format!("routes.{}", quoted(&domain));
            self.places.insert(path.clone(), self.origin(value.span()));
            let Some(hop) = value.get_ref().as_str().map(str::to_owned) else {
                let right = "write the name of a next hop in quotes".into();
                self.wrong(&path, value.span(), "is not the name of a next hop".into(), right);
                continue;
            };
            let twice = match domain.strip_prefix("*.") {
                _ if domain == "*" => routes.rest.replace(hop).is_some(),
                Some(above) if is_domain(above) => routes.below.insert(above.to_owned(), hop).is_some(),
                None if is_domain(&domain) => routes.domains.insert(domain, hop).is_some(),
                _ => {
                    let right = "write \"example.com\", \"*.example.com\" for what is below it, or \"*\" for the rest";
                    self.wrong(&path, pattern.span(), "is not a domain".into(), right.into());
                    continue;
                }
            };
            if twice {
                self.wrong(&path, pattern.span(), "stands here twice".into(), "write one of them".into());
            }
        }
    }

    fn mailboxes(&mut self, root: &DeTable<'t>, mailboxes: &mut Mailboxes) {
        let Some(table) = self.named(root, "mailboxes", MAILBOXES_MAX) else { return };
        for (address, value) in table {
            let path = format!("mailboxes.{}", quoted(address.get_ref()));
            let owner = owner_of(address.get_ref());
            if owner.is_none() {
                let right =
                    "write \"local@domain\", \"*@domain\" for a whole domain, \"*\" for everybody, or \"postmaster\"";
                self.wrong(&path, address.span(), "is not an address".into(), right.into());
            }
            let folder = value.get_ref().as_str().filter(|folder| is_folder(folder));
            if folder.is_none() {
                let right = "write a name of letters, digits, '.', '-' and '_' that begins with no dot, at most 255";
                self.wrong(&path, value.span(), "is not given a safe folder name".into(), right.into());
            }
            if let (Some(owner), Some(folder)) = (owner, folder) {
                mailboxes.put(owner, folder.to_owned());
            }
        }
    }

    fn unknown_table(&mut self, name: &str, at: Range<usize>, tables: &[(&str, Vec<&str>)]) {
        let home = tables.iter().find(|(_, keys)| keys.contains(&name));
        let right = match (nearest(name, tables.iter().map(|(table, _)| *table).chain(["profile"])), home) {
            (Some(meant), _) => format!("write {meant}"),
            (None, Some((table, _))) => format!("write it in [{table}]"),
            (None, None) => {
                let all: Vec<&str> = tables.iter().map(|(table, _)| *table).collect();
                format!("the sections are {}", all.join(", "))
            }
        };
        self.wrong("", at, format!("{} is unknown here", quoted(name)), right);
    }

    /// Says that `key` is none of `section`'s, and what was probably meant. `table` is the section's name in the tables.
    fn unknown_key(&mut self, section: &str, key: &Spanned<std::borrow::Cow<'_, str>>, table: &str) {
        let name = key.get_ref().as_ref();
        let tables = keys::tables();
        let own = tables.iter().find(|(known, _)| *known == table).map(|(_, keys)| keys.as_slice()).unwrap_or_default();
        let home = tables.iter().find(|(table, keys)| *table != "listener" && keys.contains(&name));
        let right = match (nearest(name, own.iter().copied()), home) {
            (_, Some((home, _))) => format!("write it in [{home}]"),
            (Some(meant), None) => format!("write {meant}"),
            (None, None) => format!("the keys here are {}", own.join(", ")),
        };
        self.wrong(section, key.span(), format!("{} is unknown", quoted(name)), right);
    }

    fn complain(&mut self, path: &str, complaints: Vec<Complaint>) {
        for complaint in complaints {
            self.wrong(path, complaint.at, complaint.wrong, complaint.right);
        }
    }

    fn wrong(&mut self, path: &str, at: Range<usize>, wrong: String, right: String) {
        let origin = self.origin(at);
        self.push(Weight::Error, origin, path.to_owned(), wrong, right);
    }

    pub fn push(&mut self, weight: Weight, origin: Origin, key: String, wrong: String, right: String) {
        self.problems.push(Problem { weight, origin, key, wrong, right });
    }

    fn origin(&self, at: Range<usize>) -> Origin {
        let (name, text) = self.file.unwrap_or(("", ""));
        let (line, column) = position(text, at.start);
        Origin::File { name: name.to_owned(), line, column }
    }

    /// Notes that a flag said the value of `path`.
    pub fn said_by(&mut self, path: &str, flag: &'static str) {
        self.places.insert(path.to_owned(), Origin::Flag(flag));
    }

    /// Whether a value for `path` was written, rightly or wrongly.
    pub fn was_said(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Whether something is wrong with the value of `path`.
    pub fn was_wrong(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == path)
    }

    /// Whether anything inside `section` is wrong.
    pub fn was_wrong_inside(&self, section: &str) -> bool {
        let inside = |path: &str| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        self.problems.iter().any(|problem| inside(&problem.key))
    }

    /// Whether anything was written inside `section`, rightly or wrongly, or a flag stands for it.
    pub fn was_filled(&self, section: &str) -> bool {
        let inside = |path: &str| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        matches!(self.places.get(section), Some(Origin::Flag(_))) || self.places.keys().any(|path| inside(path))
    }

    /// Where `path` was said; else the nearest section above it; else the beginning of the file.
    pub fn origin_of(&self, path: &str) -> Origin {
        let mut above = Some(path);
        while let Some(path) = above {
            if let Some(origin) = self.places.get(path) {
                return origin.clone();
            }
            above = path.rsplit_once('.').map(|(above, _)| above);
        }
        self.origin(0..0)
    }

    /// Where each key was said.
    pub fn places(&self) -> Places {
        Places { file: self.file.map(|(name, _)| name.to_owned()), said: self.places.clone() }
    }

    /// Whether there is a file, so that its remedies can be named.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }
}

/// Whom a key of `[mailboxes]` names.
fn owner_of(text: &str) -> Option<Owner> {
    if text == "*" {
        return Some(Owner::Everybody);
    }
    if text.eq_ignore_ascii_case("postmaster") {
        return Some(Owner::Postmaster);
    }
    let (local, domain) = text.rsplit_once('@')?;
    if !is_domain(domain) {
        return None;
    }
    let atoms = |local: &str| {
        local.len() <= 64
            && local.split('.').all(|atom| {
                !atom.is_empty()
                    && atom
                        .bytes()
                        .all(|octet| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet))
            })
    };
    match local {
        "*" => Some(Owner::Domain(domain.to_owned())),
        _ if atoms(local) => Some(Owner::Mailbox(local.to_owned(), domain.to_owned())),
        _ => None,
    }
}

/// Whether `name` is safe as the name of a folder: nothing that a path or a shell could read otherwise (S-031).
fn is_folder(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet))
}

/// The value of a flag as the file would hold it.
pub(super) fn flag_value(text: &str) -> Value<'_> {
    let value = if text.parse::<u64>().is_ok() { DeValue::parse(text).ok() } else { None };
    value.unwrap_or_else(|| Spanned::new(0..text.len(), DeValue::String(text.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_031_folders_are_safe_names() {
        for (name, safe) in [
            ("ann", true),
            ("ann.b-c_9", true),
            ("", false),
            (".", false),
            ("..", false),
            (".ann", false),
            ("a/b", false),
            ("../x", false),
            ("a b", false),
            ("a\0", false),
            ("ä", false),
            ("-rf", true),
        ] {
            assert_eq!(is_folder(name), safe, "{name:?}");
        }
        assert!(is_folder(&"a".repeat(255)) && !is_folder(&"a".repeat(256)));
    }

    #[test]
    fn owners_of_mailboxes() {
        assert_eq!(owner_of("*"), Some(Owner::Everybody));
        assert_eq!(owner_of("postmaster"), Some(Owner::Postmaster));
        assert_eq!(owner_of("*@a.test"), Some(Owner::Domain("a.test".into())));
        assert_eq!(owner_of("ann.b+c@a.test"), Some(Owner::Mailbox("ann.b+c".into(), "a.test".into())));
        for text in ["", "ann", "@a.test", "ann@", "a b@a.test", "a..b@a.test", "ann@a_b", "ann@*"] {
            assert_eq!(owner_of(text), None, "{text}");
        }
    }
}
