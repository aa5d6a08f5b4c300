//! The configuration of each engine process of a topology, as the text of a file. Pure.

use crate::plan::{Engine, MAILBOX_DOMAIN, Role, Server};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// The profile of every engine process.
pub const PROFILE: &str = "bench";

/// Where the neighbours of a server are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Neighbours {
    /// Its next hops.
    pub next: Vec<SocketAddr>,
    /// For a hub: mailbox delivery.
    pub mailboxes: Vec<SocketAddr>,
    /// Whether a front end hands it mail.
    pub behind_front_end: bool,
}

/// The file of `server`. Port 0 in `listen` lets the system choose one.
pub fn configuration(
    server: &Server,
    engine: &Engine,
    listen: SocketAddr,
    neighbours: &Neighbours,
    data: &Path,
) -> String {
    let mut out = format!("profile = \"{PROFILE}\"\n");
    let _ = write!(
        out,
        "[server]\nfqdn = \"{}.test\"\nshards = {}\ndriver = \"{}\"\nadmin = \"off\"\nmetrics = \"127.0.0.1:0\"\n",
        server.name, engine.shards, engine.driver
    );
    if server.role == Role::Hub {
        let _ = writeln!(out, "durability = \"{}\"\ndata_dir = {}", engine.durability, quoted(data));
    }
    if let Some(bytes) = engine.memory_budget {
        let _ = writeln!(out, "memory_budget = \"{bytes} B\"");
    }
    if let (Role::Hub, Some(bytes)) = (server.role, engine.segment_bytes) {
        let _ = writeln!(out, "[spool]\nsegment_size = \"{bytes} B\"");
    }
    let _ = write!(out, "[[listener]]\naddress = \"{listen}\"\nrole = \"{}\"\n", server.role.name());
    match server.role {
        Role::Hub => hub(&mut out, neighbours),
        Role::Frontend => {
            let _ = writeln!(out, "[frontend]\nhubs = {}", hosts(&neighbours.next));
        }
        Role::MailboxDelivery => {
            let _ = write!(out, "[store]\npath = {}\n[mailboxes]\n\"*@{MAILBOX_DOMAIN}\" = \"all\"\n", quoted(data));
        }
    }
    out
}

fn hub(out: &mut String, neighbours: &Neighbours) {
    if neighbours.behind_front_end {
        out.push_str("[access]\ntrusted_front_ends = [\"127.0.0.0/8\"]\n");
    }
    let mut routes = String::from("[routes]\n");
    for (name, addresses, domain) in
        [("onward", &neighbours.next, "*"), ("mailboxes", &neighbours.mailboxes, MAILBOX_DOMAIN)]
    {
        if !addresses.is_empty() {
            let _ = writeln!(out, "[next_hop.{name}]\nhosts = {}", hosts(addresses));
            let _ = writeln!(routes, "\"{domain}\" = \"{name}\"");
        }
    }
    out.push_str(&routes);
}

fn hosts(addresses: &[SocketAddr]) -> String {
    let quoted: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::config::{File, Machine, Overrides, read};

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// The engine's own reader takes every file that can be made here, without a warning.
    #[test]
    fn the_engine_takes_what_is_written_here() {
        let machine = Machine { hostname: Some("bench.test".into()), cores: vec![0, 1], folder: "/".into() };
        let engine = Engine {
            durability: "os".into(),
            driver: "epoll".into(),
            shards: 2,
            memory_budget: Some(16 << 20),
            segment_bytes: Some(8 << 20),
        };
        for role in [Role::Hub, Role::Frontend, Role::MailboxDelivery] {
            for behind_front_end in [false, true] {
                for mailboxes in [vec![], vec![address(7)]] {
                    let neighbours = Neighbours { next: vec![address(5), address(6)], mailboxes, behind_front_end };
                    let server = Server { name: "part-1".into(), role, next: vec![], mailboxes: vec![] };
                    let data = Path::new("/var/a \"quoted\" place");
                    let text = configuration(&server, &engine, address(2525), &neighbours, data);
                    let file = File { name: "part-1.toml", octets: text.as_bytes() };
                    match read(Some(file), &Overrides::default(), &machine) {
                        Ok(checked) => assert!(checked.warnings.is_empty(), "{text}\n{:?}", checked.warnings),
                        Err(problems) => panic!("{text}\n{problems:?}"),
                    }
                }
            }
        }
    }
}
