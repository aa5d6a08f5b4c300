//! What a delivery status notification says of its recipients (RFC 3464), as far as accounts need it: whom it calls failed.
//! Pure. Reads what any server may have written: nothing in it is trusted, and what is no such report is nobody's word.

use crate::stamp::recipient_key;

/// Octets of a report that are kept to be read. What it says of recipients beyond them is not known.
pub(super) const REPORT_BYTES_MAX: usize = 256 << 10;

/// The keys of those whom a report calls failed; `None` where it has no part that programs can read.
pub(super) fn failed_recipients(report: &[u8]) -> Option<Vec<u32>> {
    let mut lines = report.split_inclusive(|&octet| octet == b'\n').map(<[u8]>::trim_ascii_end);
    lines.find(|line| is_status_part(line))?;
    // The rest of the part's header section, and the fields about the report itself.
    lines.find(|line| line.is_empty())?;
    lines.find(|line| line.is_empty())?;
    let mut failed = Vec::new();
    let mut group = Group::default();
    for line in lines.take_while(|line| !line.starts_with(b"--")) {
        if line.is_empty() {
            failed.extend(std::mem::take(&mut group).failed());
        } else {
            group.read(line);
        }
    }
    failed.extend(group.failed());
    Some(failed)
}

fn is_status_part(line: &[u8]) -> bool {
    field(line, b"Content-Type").is_some_and(|value| {
        let kind = value.split(|&octet| octet == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"message/delivery-status")
    })
}

/// The fields about one recipient.
#[derive(Default)]
struct Group {
    is_failed: bool,
    /// As the sender wrote him, else as he was in the end.
    original: Option<u32>,
    last: Option<u32>,
}

impl Group {
    fn read(&mut self, line: &[u8]) {
        if let Some(action) = field(line, b"Action") {
            self.is_failed = action.eq_ignore_ascii_case(b"failed");
        } else if let Some(address) = field(line, b"Original-Recipient") {
            self.original = key_of(address);
        } else if let Some(address) = field(line, b"Final-Recipient") {
            self.last = key_of(address);
        }
    }

    fn failed(self) -> Option<u32> {
        self.original.or(self.last).filter(|_| self.is_failed)
    }
}

/// The value of a field with this name.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":").filter(|_| found.eq_ignore_ascii_case(name))?;
    Some(value.trim_ascii())
}

/// `rfc822; local@domain`.
fn key_of(typed: &[u8]) -> Option<u32> {
    let (_, address) = typed.split_at_checked(memchr::memchr(b';', typed)? + 1)?;
    let address = address.trim_ascii();
    let (local, domain) = address.split_at_checked(memchr::memrchr(b'@', address)?)?;
    Some(recipient_key(local, domain.strip_prefix(b"@")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOP: &str = "From: <>\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=b\r\n\r\n\
                       --b\r\nContent-Type: text/plain\r\n\r\nIt failed.\r\nAction: failed\r\n\r\n";

    fn keys(of: &[&str]) -> Vec<u32> {
        let key = |text: &&str| {
            let (local, domain) = text.split_once('@').expect("an address");
            recipient_key(local.as_bytes(), domain.as_bytes())
        };
        of.iter().map(key).collect()
    }

    #[test]
    fn m_153_m_154_a_report_names_whom_it_calls_failed_and_nobody_else() {
        let status = "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x.test\r\n\r\n";
        let bob = "Final-Recipient: rfc822; Bob@B.test\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n";
        let ann =
            "original-recipient:rfc822;ann@a.test\r\nFinal-Recipient: rfc822; alias@c.test\r\nACTION:  Failed\r\n";
        let eve = "Final-Recipient: rfc822; eve@b.test\r\nAction: delayed\r\n\r\n";
        let end = "--b\r\nContent-Type: message/rfc822\r\n\r\nFinal-Recipient: rfc822; no@b.test\r\nAction: failed\r\n";
        for (text, expected) in [
            ([TOP, status, bob, ann, end].concat(), Some(keys(&["bob@b.test", "ann@a.test"]))),
            ([TOP, status, eve, bob, "--b--\r\n"].concat(), Some(keys(&["bob@b.test"]))),
            ([TOP, status, eve, end].concat(), Some(Vec::new())),
            ([TOP, status, bob, ann].concat().replace("\r\n", "\n"), Some(keys(&["bob@b.test", "ann@a.test"]))),
            ([TOP, status, "Action: failed\r\n\r\n"].concat(), Some(Vec::new())),
            ([TOP, "--b--\r\n"].concat(), None),
            ("Subject: away\r\n\r\nI am away.\r\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(failed_recipients(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn s_044_no_octets_make_it_panic(octets: Vec<u8>, cut in 0usize..400) {
            let _ = failed_recipients(&octets);
            let text = [TOP, "--b\r\nContent-Type: message/delivery-status\r\n\r\nA: b\r\n\r\nAction: failed\r\n"].concat();
            let mut text = text.into_bytes();
            text.truncate(cut);
            text.extend(octets);
            let _ = failed_recipients(&text);
        }
    }
}
