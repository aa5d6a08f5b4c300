//! Every default as a file that can be taken as a start.

use super::keys::{self, Key, ListenerText, ServerText};
use crate::settings::*;
use std::fmt::Write as _;

/// A whole configuration file with every key, its meaning, its range and its default in `profile`. What has no default
/// stands behind a `#`.
pub fn defaults(profile: Profile) -> String {
    let settings = Settings::of(profile);
    let listener = ListenerText { address: None, role: None, protocol: Protocol::Smtp };
    let hop = NextHop::of(Vec::new(), Protocol::Smtp);
    let mut out = String::new();
    out.push_str("# Every key of a ringpost configuration with its default; keys without one stand behind a #.\n\n");
    out.push_str("# whose defaults hold: exchange, rfc or bench\n");
    let _ = writeln!(out, "profile = \"{profile}\"");
    section(&mut out, "[server]", keys::SERVER, &ServerText::of(&settings.server));
    section(&mut out, "[receive]", keys::RECEIVE, &settings.receive);
    section(&mut out, "[delivery]", keys::DELIVERY, &settings.delivery);
    section(&mut out, "[access]", keys::ACCESS, &settings.access);
    section(&mut out, "[store]", keys::STORE, &settings);
    section(&mut out, "[spool]", keys::SPOOL, &settings.spool);
    section(&mut out, "[log]", keys::LOG, &settings.log);
    out.push_str(
        "\n# A listener takes every key of [receive] too. Defaults of [receive] above are a hub's; a front end's are\n",
    );
    let front = Receive::of(profile, Role::Frontend);
    let _ = writeln!(
        out,
        "# recipients_max = {}, connections_per_source_max = {}.",
        front.recipients_max, front.connections_per_source_max
    );
    example(&mut out, "[[listener]]", keys::LISTENER, &listener);
    example(&mut out, "[next_hop.smart]", keys::NEXT_HOP, &hop);
    out.push_str("\n#[routes]\n# a domain, what is below one, or the rest, and its next hop\n");
    out.push_str("#\"example.com\" = \"smart\"\n#\"*.example.com\" = \"smart\"\n#\"*\" = \"smart\"\n");
    example(&mut out, "[frontend]", keys::FRONTEND, &hop);
    out.push_str("\n#[mailboxes]\n# an address, a whole domain or everybody, and the folder below the store's path\n");
    out.push_str("#\"ann@example.com\" = \"ann\"\n#\"*@example.com\" = \"others\"\n");
    out.push_str("# postmaster at each of these domains, and without a domain, unless said otherwise\n#\"postmaster\" = \"postmaster\"\n");
    out
}

fn section<S>(out: &mut String, header: &str, keys: &[Key<S>], of: &S) {
    let _ = writeln!(out, "\n{header}");
    for key in keys {
        let _ = writeln!(out, "# {}; {}", key.what, (key.rule)());
        let _ = match (key.show)(of) {
            Some(value) => writeln!(out, "{} = {value}", key.name),
            None => writeln!(out, "#{} = {}", key.name, (key.sample)()),
        };
    }
}

/// A section that has no defaults of its own: everything behind a `#`.
fn example<S>(out: &mut String, header: &str, keys: &[Key<S>], of: &S) {
    let _ = writeln!(out, "\n#{header}");
    for key in keys {
        let value = (key.show)(of).filter(|value| value != "[]").unwrap_or_else(|| (key.sample)());
        let _ = writeln!(out, "# {}; {}\n#{} = {value}", key.what, (key.rule)(), key.name);
    }
}
