//! What is done to a reply on its way out. Pure: octets in, octets out.

use super::Action;

/// What follows a mangled reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The session goes on.
    GoOn,
    /// Close when the octets are sent.
    Close,
}

/// Does `action` to the last reply in `out`, which begins at `from`. An action that is not about the octets of a reply
/// leaves it as it is.
pub fn mangle(action: &Action, out: &mut Vec<u8>, from: usize) -> Then {
    let from = from.min(out.len());
    match action {
        Action::Cut(octets) => {
            out.truncate((from + octets).min(out.len()));
            return Then::Close;
        }
        Action::Multiline(lines) => multiline(out, from, *lines),
        Action::Long(octets) => {
            let line_end = if out.ends_with(b"\r\n") { out.len() - 2 } else { out.len() };
            out.truncate(line_end);
            out.resize(line_end.max(from + octets), b'x');
            out.extend_from_slice(b"\r\n");
        }
        Action::NoCrlf => {
            while out.len() > from && matches!(out.last(), Some(b'\r' | b'\n')) {
                out.pop();
            }
        }
        Action::Lf => {
            let reply = out.split_off(from);
            for line in reply.split_inclusive(|&octet| octet == b'\n') {
                match line.strip_suffix(b"\r\n") {
                    Some(text) => out.extend(text.iter().chain(b"\n")),
                    None => out.extend_from_slice(line),
                }
            }
        }
        Action::Garbage(octets) => {
            out.truncate(from);
            let mut value = 0x2545_f491_4f6c_dd1d_u64;
            out.extend((0..*octets).map(|_| {
                value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (value >> 56) as u8
            }));
            out.extend_from_slice(b"\r\n");
        }
        Action::Extra => out.extend_from_slice(b"250 2.0.0 Nobody asked\r\n"),
        Action::TwoDigits if out.len() > from + 2 => drop(out.remove(from + 2)),
        Action::MixedCodes => {
            let other: &[u8] =
                if out[from..].starts_with(b"2") { b"550-5.0.0 Mixed\r\n" } else { b"250-2.0.0 Mixed\r\n" };
            out.splice(from..from, other.iter().copied());
        }
        Action::NoExt(keyword) => edit_lines(out, from, |line| !is_keyword(line, keyword)),
        Action::LieSize(bytes) => {
            edit_lines(out, from, |line| !is_keyword(line, "SIZE"));
            add_line(out, from, &format!("SIZE {bytes}"));
        }
        Action::Ext(line) => add_line(out, from, line),
        _ => {}
    }
    Then::GoOn
}

/// `lines` lines with the code of the reply.
fn multiline(out: &mut Vec<u8>, from: usize, lines: usize) {
    let code: Vec<u8> = out[from..].iter().take(3).copied().collect();
    let last = out.split_off(from);
    for _ in 1..lines {
        out.extend_from_slice(&code);
        out.extend_from_slice(b"-one line of many\r\n");
    }
    let start = if lines > 1 { last_line(&last) } else { 0 };
    out.extend_from_slice(&last[start..]);
}

fn last_line(reply: &[u8]) -> usize {
    let without_end = reply.strip_suffix(b"\r\n").unwrap_or(reply);
    memchr::memrchr(b'\n', without_end).map_or(0, |at| at + 1)
}

/// Keeps the first line and those that `keep` approves of, and makes the last one the last.
fn edit_lines(out: &mut Vec<u8>, from: usize, keep: impl Fn(&[u8]) -> bool) {
    let reply = out.split_off(from);
    let lines: Vec<&[u8]> = reply.split_inclusive(|&octet| octet == b'\n').collect();
    let kept: Vec<&[u8]> =
        lines.iter().enumerate().filter(|(at, line)| *at == 0 || keep(line)).map(|(_, line)| *line).collect();
    for (at, line) in kept.iter().enumerate() {
        let start = out.len();
        out.extend_from_slice(line);
        if let Some(mark) = out.get_mut(start + 3) {
            *mark = if at + 1 == kept.len() { b' ' } else { b'-' };
        }
    }
}

fn add_line(out: &mut Vec<u8>, from: usize, line: &str) {
    let start = from + last_line(&out[from..]);
    if let Some(mark) = out.get_mut(start + 3) {
        *mark = b'-';
        let code: Vec<u8> = out[start..start + 3].to_vec();
        out.extend_from_slice(&code);
        out.extend_from_slice(format!(" {line}\r\n").as_bytes());
    }
}

fn is_keyword(line: &[u8], keyword: &str) -> bool {
    let word = line.get(4..).unwrap_or_default();
    let end = word.iter().position(|octet| octet.is_ascii_whitespace()).unwrap_or(word.len());
    word[..end].eq_ignore_ascii_case(keyword.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EHLO: &[u8] = b"250-mx.test\r\n250-SIZE 1000\r\n250-PIPELINING\r\n250 CHUNKING\r\n";

    fn mangled(action: &Action, reply: &[u8]) -> (String, Then) {
        let mut out = b"354 before\r\n".to_vec();
        let from = out.len();
        out.extend_from_slice(reply);
        let then = mangle(action, &mut out, from);
        let text = String::from_utf8_lossy(&out).into_owned();
        (text.strip_prefix("354 before\r\n").expect("what stands before is untouched").to_owned(), then)
    }

    #[test]
    fn replies_are_mangled_as_asked() {
        let ok = b"250 2.0.0 ok\r\n";
        for (action, expected) in [
            (Action::Cut(2), "25"),
            (Action::Cut(100), "250 2.0.0 ok\r\n"),
            (Action::Multiline(3), "250-one line of many\r\n250-one line of many\r\n250 2.0.0 ok\r\n"),
            (Action::Multiline(1), "250 2.0.0 ok\r\n"),
            (Action::Long(16), "250 2.0.0 okxxxx\r\n"),
            (Action::NoCrlf, "250 2.0.0 ok"),
            (Action::Lf, "250 2.0.0 ok\n"),
            (Action::Extra, "250 2.0.0 ok\r\n250 2.0.0 Nobody asked\r\n"),
            (Action::TwoDigits, "25 2.0.0 ok\r\n"),
            (Action::MixedCodes, "550-5.0.0 Mixed\r\n250 2.0.0 ok\r\n"),
            (Action::Stall, "250 2.0.0 ok\r\n"),
        ] {
            let (text, then) = mangled(&action, ok);
            assert_eq!(text, expected, "{action:?}");
            assert_eq!(then == Then::Close, matches!(action, Action::Cut(_)));
        }
        assert_eq!(
            mangled(&Action::Garbage(50), ok).0.len(),
            String::from_utf8_lossy(&{
                let mut out = Vec::new();
                mangle(&Action::Garbage(50), &mut out, 0);
                out
            })
            .len()
        );
    }

    #[test]
    fn f_086_extensions_are_withdrawn_and_added() {
        let (text, _) = mangled(&Action::NoExt("CHUNKING".into()), EHLO);
        assert_eq!(text, "250-mx.test\r\n250-SIZE 1000\r\n250 PIPELINING\r\n");
        let (text, _) = mangled(&Action::LieSize(7), EHLO);
        assert_eq!(text, "250-mx.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE 7\r\n");
        let (text, _) = mangled(&Action::Ext("XFOO".into()), EHLO);
        assert!(text.ends_with("250-CHUNKING\r\n250 XFOO\r\n"), "{text}");
        let (text, _) = mangled(&Action::NoExt("SIZE".into()), b"250 mx.test\r\n");
        assert_eq!(text, "250 mx.test\r\n");
    }

    #[test]
    fn nothing_to_mangle_is_no_panic() {
        for action in [
            Action::Cut(5),
            Action::Multiline(2),
            Action::TwoDigits,
            Action::MixedCodes,
            Action::Lf,
            Action::NoCrlf,
            Action::NoExt("A".into()),
            Action::Ext("A".into()),
            Action::LieSize(1),
            Action::Long(3),
        ] {
            mangle(&action, &mut Vec::new(), 0);
            mangle(&action, &mut b"2".to_vec(), 7);
        }
    }
}
