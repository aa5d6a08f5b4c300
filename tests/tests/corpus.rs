//! The corpus is what its README says, octet by octet.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::process::Command;
use tests::corpus::{folder, mails};

#[test]
fn every_message_travels_by_data_unchanged() {
    for mail in mails() {
        let text = &mail.content;
        assert!(text.ends_with(b"\r\n"), "{} ends its last line", mail.name);
        assert!(!text.contains(&0), "{} holds no NUL", mail.name);
        for (at, octet) in text.iter().enumerate() {
            let (is_cr, is_lf) = (*octet == b'\r', *octet == b'\n');
            assert!(!is_cr || text.get(at + 1) == Some(&b'\n'), "{}: a bare CR at {at}", mail.name);
            assert!(!is_lf || at > 0 && text[at - 1] == b'\r', "{}: a bare LF at {at}", mail.name);
        }
        let longest = text.split(|octet| *octet == b'\n').map(<[u8]>::len).max().expect("one line") - 1;
        assert!(longest <= 998, "{}: a line of {longest} octets", mail.name);
    }
}

#[test]
fn every_hard_shape_is_there() {
    let mails = mails();
    let any = |what: &str, holds: &dyn Fn(&[u8]) -> bool| {
        assert!(mails.iter().any(|mail| holds(&mail.content)), "no message {what}");
    };
    let has = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
    any("with a line of one dot", &|text| has(text, b"\r\n.\r\n"));
    any("with two dots at a line's start", &|text| has(text, b"\r\n..\r\n"));
    any("that ends in a lone dot", &|text| text.ends_with(b"\r\n.\r\n"));
    any("with a line of 998 octets", &|text| text.split(|octet| *octet == b'\n').any(|line| line.len() == 999));
    any("with UTF-8", &|text| std::str::from_utf8(text).is_ok_and(|text| !text.is_ascii()));
    any("with octets that are no UTF-8", &|text| std::str::from_utf8(text).is_err());
    any("with a header over 32 KiB", &|text| {
        text.windows(4).position(|four| four == b"\r\n\r\n").is_some_and(|at| at > 32 << 10)
    });
    any("without a body", &|text| {
        text.ends_with(b"\r\n\r\n") && text.windows(4).position(|four| four == b"\r\n\r\n") == Some(text.len() - 4)
    });
    any("of more than 256 KiB", &|text| text.len() > 256 << 10);
    for part in
        ["message/rfc822", "format=flowed", "List-Id:", "text/calendar", "message/delivery-status", "multipart/signed"]
    {
        any(part, &|text| has(text, part.as_bytes()));
    }
}

#[test]
fn the_readme_names_every_message() {
    let readme = std::fs::read_to_string(folder().join("README.md")).expect("a README");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let named: BTreeSet<String> = rows.skip(1).flat_map(|row| row.split(", ")).map(str::to_owned).collect();
    assert_eq!(named, mails().into_iter().map(|mail| mail.name).collect());
}

#[test]
fn the_files_are_what_their_maker_writes() {
    let made = tempfile::tempdir().expect("a folder");
    let run = Command::new("python3").arg(folder().join("make")).arg(made.path()).output();
    let Ok(output) = run else { return tests::skip("the_files_are_what_their_maker_writes", "python3 is not here") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = std::fs::read_dir(made.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), mails().len() + 1, "every message and one mailbox");
    for name in names {
        let (kept, made) = (std::fs::read(folder().join(&name)), std::fs::read(made.path().join(&name)));
        assert!(kept.expect("a kept file") == made.expect("a made file"), "{name:?} differs from what `make` writes");
    }
}
