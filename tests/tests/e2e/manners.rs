//! How a server treats clients without manners.

use tests::hub::{Hub, Told};
use tests::peers::free_address;
use tests::talk::Talk;
use tests::wait::until;

const DRIVERS: [&str; 2] = ["auto", "epoll"];

fn hub(driver: &'static str, receive: &str) -> Hub {
    let more = vec![("receive", receive.to_owned())];
    Hub::started(Told { driver, more, ..Told::relaying_to(free_address()) })
}

/// Waits until a counter of the hub shows this.
fn counted(hub: &Hub, counter: &str, count: u64) {
    until(counter, || (hub.status()["counters"][counter].as_u64() == Some(count)).then_some(()));
}

/// Octets before the greeting end the wait for it: they are counted, and refused where the listener says so.
#[test]
fn m_017_who_talks_before_the_greeting_is_seen() {
    for driver in DRIVERS {
        for (refuse, greeting, hello) in [(true, 554, 503), (false, 220, 250)] {
            let mut hub =
                hub(driver, &format!("greeting_wait = \"1m\"\nrefuse_early_talkers = {refuse}\ntarpit_wait = \"0s\""));
            let mut talk = Talk::connect(hub.address()).expect("a connection");
            talk.write(b"EHLO client.test\r\n").expect("an open connection");
            assert_eq!(talk.reply().expect("a greeting").code, greeting, "{driver}");
            assert_eq!(talk.reply().expect("the answer to what it said early").code, hello, "{driver}");
            assert_eq!(talk.say("QUIT").expect("a farewell").code, 221, "{driver}");
            counted(&hub, "early_talkers", 1);
            hub.stop();
        }
    }
}

#[test]
fn m_017_who_waits_for_the_greeting_gets_it() {
    for driver in DRIVERS {
        let mut hub = hub(driver, "greeting_wait = \"50ms\"\nrefuse_early_talkers = true");
        let mut talk = Talk::hello(hub.address()).expect("a greeting and a hello");
        assert_eq!(talk.say("NOOP").expect("a reply").code, 250);
        assert_eq!(hub.status()["counters"]["early_talkers"], 0);
        hub.stop();
    }
}
