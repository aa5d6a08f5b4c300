//! Unique names of messages in a Maildir: `seconds.M<microseconds>P<instance>Q<count>.<host>`.
//!
//! The instance tells processes and shards apart, the count messages of one shard; the time only helps people, so a clock
//! that stands still or goes back does no harm. No name begins with a dot or holds `/` or `:`; as Maildir has it, such octets
//! of the host's name are written in octal (`\057`).

use crate::wire::Wall;
use std::fmt::Write as _;

/// Octets of the host's name, escaped, that a name carries: the whole stays under 255 with room for flags behind.
const HOST_BYTES_MAX: usize = 128;

/// A file in `tmp` that is older than this belongs to nobody (the 36 hours of the Maildir convention).
const ABANDONED_AFTER_SECONDS: i64 = 36 * 60 * 60;

/// Gives out names for one shard.
#[derive(Debug)]
pub struct Names {
    host: Box<str>,
    instance: u64,
    count: u64,
}

impl Names {
    /// Names for `host` (any text) by `instance`, which no other shard of any process at this store has: drawn at random at
    /// start, or made of process, start time and shard.
    pub fn new(host: &str, instance: u64) -> Self {
        let mut safe = String::new();
        for octet in host.bytes() {
            let before = safe.len();
            match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => safe.push(char::from(octet)),
                // Writing to a String cannot fail.
                _ => _ = write!(safe, "\\{octet:03o}"),
            }
            if safe.len() > HOST_BYTES_MAX {
                safe.truncate(before);
                break;
            }
        }
        if safe.is_empty() {
            safe.push_str("localhost");
        }
        Self { host: safe.into(), instance, count: 0 }
    }

    /// Writes a name that was never given out before over `into`.
    pub fn next(&mut self, now: Wall, into: &mut String) {
        self.count = self.count.wrapping_add(1);
        let (seconds, micros) = (now.0.div_euclid(1_000_000), now.0.rem_euclid(1_000_000));
        into.clear();
        let (instance, count, host) = (self.instance, self.count, &self.host);
        // Writing to a String cannot fail.
        let _ = write!(into, "{seconds}.M{micros}P{instance:x}Q{count}.{host}");
    }
}

/// Whether a file in `tmp` was left behind by a crash long ago. Names that are not of our form are never ours to remove.
pub fn is_abandoned(name: &str, now: Wall) -> bool {
    let Some((seconds, rest)) = name.split_once('.') else { return false };
    let Ok(seconds) = seconds.parse::<i64>() else { return false };
    let age = now.0.div_euclid(1_000_000).saturating_sub(seconds);
    has_our_form(rest) && age > ABANDONED_AFTER_SECONDS
}

/// `M<digits>P<hex>Q<digits>.<host>`.
fn has_our_form(rest: &str) -> bool {
    let form = || {
        let (micros, rest) = rest.strip_prefix('M')?.split_once('P')?;
        let (instance, rest) = rest.split_once('Q')?;
        let (count, host) = rest.split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        Some(digits(micros) && digits(count) && u64::from_str_radix(instance, 16).is_ok() && !host.is_empty())
    };
    form().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const NOON: Wall = Wall(1_790_000_000_123_456);

    fn name(names: &mut Names, now: Wall) -> String {
        let mut name = String::from("what stood here before");
        names.next(now, &mut name);
        name
    }

    #[test]
    fn s_031_names_are_unique_whatever_the_clock_does() {
        let mut seen = BTreeSet::new();
        for instance in 0..3 {
            let mut names = Names::new("mx.a.test", instance);
            for now in [NOON, NOON, Wall(0), NOON, Wall(-1), Wall(i64::MAX), Wall(i64::MIN)] {
                assert!(seen.insert(name(&mut names, now)), "given out twice");
            }
        }
        assert!(seen.contains("1790000000.M123456P0Q1.mx.a.test"), "{seen:?}");
    }

    #[test]
    fn s_031_the_host_cannot_make_a_path_of_a_name() {
        for (host, expected) in [
            ("a/b:c", "a\\057b\\072c"),
            ("../../etc", "..\\057..\\057etc"),
            ("", "localhost"),
            ("a\0b\r\n", "a\\000b\\015\\012"),
        ] {
            let made = name(&mut Names::new(host, 7), NOON);
            assert_eq!(made, format!("1790000000.M123456P7Q1.{expected}"));
        }
    }

    #[test]
    fn what_a_crash_left_behind_is_told_from_what_is_not_ours() {
        let made = name(&mut Names::new("mx.a.test", 0xBEEF), NOON);
        let later = |hours: i64| Wall(NOON.0 + hours * 3_600_000_000);
        assert!(!is_abandoned(&made, later(36)));
        assert!(is_abandoned(&made, later(37)));
        assert!(!is_abandoned(&made, later(-100)), "a clock that went back removes nothing");
        for foreign in
            ["", ".", "notes.txt", "1790000000.V801I2M3.host", "1.M1P1Q1", "1.M1PxyzQ1.h", "x.M1P1Q1.h", "1.MP1Q1.h"]
        {
            assert!(!is_abandoned(foreign, later(1000)), "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn s_031_every_name_is_one_plain_component(host in ".{0,300}", instance: u64, now: i64) {
            let made = name(&mut Names::new(&host, instance), Wall(now));
            prop_assert!(made.len() <= 240, "{}", made.len());
            prop_assert!(made.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'/' && octet != b':'));
            prop_assert!(!made.starts_with('.'));
        }
    }
}
