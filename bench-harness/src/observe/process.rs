//! CPU time and memory of a process tree, read from /proc. The parsers are pure; a process that has ended reads as `None`.

use std::fs;
use std::path::Path;

/// What a process and its descendants have used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// User time, microseconds (to the kernel's tick, usually 10 ms).
    pub user_us: u64,
    /// System time, microseconds.
    pub system_us: u64,
    /// Most memory resident at once, octets (sum of each process's own peak).
    pub rss_peak_bytes: u64,
}

impl Usage {
    /// User and system time together.
    pub fn cpu_us(&self) -> u64 {
        self.user_us + self.system_us
    }

    /// CPU time used since `earlier`.
    pub fn cpu_us_since(&self, earlier: &Self) -> u64 {
        self.cpu_us().saturating_sub(earlier.cpu_us())
    }
}

/// Reads the tree below `pid`, itself included. Children that ended and were reaped count with their parent.
pub fn usage(pid: u32) -> Option<Usage> {
    let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let root = Path::new("/proc").join(pid.to_string());
    let stat = fs::read_to_string(root.join("stat")).ok()?;
    let ticks = parse_stat(&stat)?;
    let peak = fs::read_to_string(root.join("status")).ok().and_then(|s| parse_peak(&s)).unwrap_or(0);
    let mut usage = Usage { user_us: ticks.user * tick_us, system_us: ticks.system * tick_us, rss_peak_bytes: peak };
    for child in children(&root) {
        if let Some(below) = self::usage(child) {
            usage.user_us += below.user_us;
            usage.system_us += below.system_us;
            usage.rss_peak_bytes += below.rss_peak_bytes;
        }
    }
    Some(usage)
}

/// Memory of the process alone that is resident now, octets.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    kilobytes_of(&status, "VmRSS:")
}

/// Of that, what no file stands behind.
pub fn own_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    kilobytes_of(&status, "RssAnon:")
}

fn children(root: &Path) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(root.join("task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Clock ticks of a process and of the children it has reaped.
#[derive(Debug, PartialEq, Eq)]
struct Ticks {
    user: u64,
    system: u64,
}

/// Fields 14 to 17 of /proc/PID/stat. The second field is the program's name in parentheses and may hold anything.
fn parse_stat(stat: &str) -> Option<Ticks> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = behind_name.split_ascii_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let mut next = || fields.next().flatten();
    let (user, system, user_below, system_below) = (next()?, next()?, next()?, next()?);
    Some(Ticks { user: user + user_below, system: system + system_below })
}

/// `VmHWM` of /proc/PID/status, octets.
fn parse_peak(status: &str) -> Option<u64> {
    kilobytes_of(status, "VmHWM:")
}

fn kilobytes_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "4242 (a) b (c)) S 1 4242 4242 0 -1 4194560 1 2 3 4 500 60 7 8 20 0 3 0 12345 1000 200 18446744073709551615";

    #[test]
    fn times_are_found_behind_any_name() {
        assert_eq!(parse_stat(STAT), Some(Ticks { user: 507, system: 68 }));
        for broken in ["", "1 (x", "1 (x) S 1 2", "1 (x) S 1 1 1 0 -1 0 1 2 3 4 many 60 7 8"] {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_peak_is_in_octets() {
        assert_eq!(parse_peak("VmPeak:\t  99 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(parse_peak("VmHWM:\t many kB"), None);
        assert_eq!(parse_peak(""), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let before = usage(std::process::id()).expect("we run");
        assert!(before.rss_peak_bytes > 100_000);
        let mut spent = 0;
        let mut x = 1u64;
        while spent < 20_000 {
            for _ in 0..1_000_000 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(std::hint::black_box(1));
            }
            spent = usage(std::process::id()).expect("we run").cpu_us_since(&before);
        }
        assert_ne!(x, 0);
        assert_eq!(usage(u32::MAX), None, "no such process");
        let resident = resident_bytes(std::process::id()).expect("we run");
        assert!(resident > 100_000 && resident_bytes(u32::MAX).is_none());
        let own = own_bytes(std::process::id()).expect("we run");
        assert!(own > 10_000 && own < resident && own_bytes(u32::MAX).is_none(), "{own} of {resident}");
    }
}
