//! What mailbox delivery put into its folders, read as a sink's ledger would tell it: each file is one copy of one message,
//! known by the stamp in its Return-Path, delivered when it got its name there (the inode's change time).

use engine::wire::Tick;
use loadgen::ledger::Delivery;
use loadgen::stamp::Stamp;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A Return-Path stands in the first lines or nowhere.
const HEAD_BYTES: u64 = 4096;

/// Everything below `root` in folders called `new` or `cur`. `wall_ahead_ns` is the wall clock minus the monotonic clock;
/// `recipient` gives the key of a message's recipient by run and number: what is not to be told from the file.
///
/// # Errors
/// A folder or file cannot be read.
pub fn deliveries(
    root: &Path,
    wall_ahead_ns: i128,
    recipient: impl Fn(&Stamp) -> Option<u32> + Copy,
) -> io::Result<Vec<Delivery>> {
    let mut found = Vec::new();
    collect(root, false, wall_ahead_ns, recipient, &mut found)?;
    Ok(found)
}

fn collect(
    folder: &Path,
    holds_mail: bool,
    wall_ahead_ns: i128,
    recipient: impl Fn(&Stamp) -> Option<u32> + Copy,
    found: &mut Vec<Delivery>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let holds_mail = entry.file_name() == "new" || entry.file_name() == "cur";
            collect(&entry.path(), holds_mail, wall_ahead_ns, recipient, found)?;
        } else if holds_mail {
            let file = File::open(entry.path())?;
            let about = file.metadata()?;
            let Some(stamp) = stamp_of(BufReader::new(file.take(HEAD_BYTES)))? else { continue };
            let wall_ns = i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
            let Some(recipient) = recipient(&stamp) else { continue };
            found.push(Delivery {
                run: stamp.run,
                recipient,
                seq: stamp.seq,
                at: Tick(u64::try_from(wall_ns - wall_ahead_ns).unwrap_or(0)),
                bytes: u32::try_from(about.size()).unwrap_or(u32::MAX),
                flags: 0,
            });
        }
    }
    Ok(())
}

/// The stamp in `Return-Path: <LOCAL@DOMAIN>`, if that stands in the header.
fn stamp_of(mut file: impl BufRead) -> io::Result<Option<Stamp>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 || line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let Some((name, value)) = line.split_at_checked("return-path:".len()) else { continue };
        if !name.eq_ignore_ascii_case(b"return-path:") {
            continue;
        }
        let value = value.trim_ascii();
        let inside = value.strip_prefix(b"<").and_then(|v| v.strip_suffix(b">")).unwrap_or(value);
        let local = inside.split(|octet| *octet == b'@').next().unwrap_or_default();
        return Ok(Stamp::parse(local));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 7, seq: 42, bytes: 3, crc32c: 9, ends_with_crlf: true };

    fn mail(header: &str) -> Vec<u8> {
        let mut local = String::new();
        STAMP.write(&mut local);
        format!("{}\r\nSubject: x\r\n\r\nbody", header.replace("STAMP", &local)).into_bytes()
    }

    #[test]
    fn the_stamp_is_in_the_return_path_alone() {
        for (header, expected) in [
            ("Return-Path: <STAMP@load.test>", Some(STAMP)),
            ("Delivered-To: x\r\nRETURN-PATH:<STAMP@load.test>", Some(STAMP)),
            ("Return-Path: <>", None),
            ("Return-Path: <ann@a.test>", None),
            ("Subject: x\r\n\r\nReturn-Path: <STAMP@load.test>", None),
        ] {
            assert_eq!(stamp_of(mail(header).as_slice()).expect("memory"), expected, "{header}");
        }
    }

    #[test]
    fn only_what_is_delivered_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for place in ["all/new", "all/tmp", "all/cur"] {
            fs::create_dir_all(root.path().join(place)).expect("made");
            fs::write(root.path().join(place).join("1.M2"), mail("Return-Path: <STAMP@load.test>")).expect("written");
        }
        let all = deliveries(root.path(), 0, |stamp| (stamp.run == 7).then_some(5)).expect("readable");
        assert_eq!(all.iter().map(|d| (d.run, d.seq, d.recipient)).collect::<Vec<_>>(), [(7, 42, 5), (7, 42, 5)]);
        assert!(all[0].at > Tick(1_600_000_000_000_000_000), "the wall clock, nothing taken away");
        assert!(deliveries(root.path(), 0, |_| None).expect("readable").is_empty());
    }
}
