//! What mailbox delivery put into its folders, read as a sink's ledger would tell it: each file is one copy of one message,
//! known by the stamp in its Return-Path, compared with what that says was sent, delivered when it got its name there (the
//! inode's change time).

use engine::wire::Tick;
use loadgen::ledger::{Delivery, FLAG_DIFFERS};
use loadgen::sink::content::Content;
use loadgen::stamp::{Stamp, crc32c};
use loadgen::workload::corpus::{self, CorpusError};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A Return-Path stands in the first lines or nowhere.
const HEAD_BYTES: u64 = 4096;
/// Octets that are read at once behind them.
const READ_BYTES: usize = 64 << 10;

/// How contents look in a mailbox that had a Return-Path of their own: final delivery takes it away (RFC 5321 §4.4, M-079).
/// By octets and checksum of what was sent, those of what is to be found, behind trace.
#[derive(Debug, Default)]
pub struct Kept(BTreeMap<(u64, u32), Stamp>);

impl Kept {
    /// Of the messages of a corpus.
    ///
    /// # Errors
    /// It cannot be read any more.
    pub fn of_corpus(path: &Path) -> Result<Self, CorpusError> {
        Ok(Self::of(corpus::read(path)?.iter().map(|message| &message.bytes[..])))
    }

    fn of<'c>(contents: impl Iterator<Item = &'c [u8]>) -> Self {
        let kept = contents.filter_map(|sent| {
            let left = without_return_paths(sent)?;
            let (bytes, crc32c, ends_with_crlf) = (left.len() as u64, crc32c(&left), left.ends_with(b"\r\n"));
            Some((
                (sent.len() as u64, loadgen::stamp::crc32c(sent)),
                Stamp { run: 0, seq: 0, bytes, crc32c, ends_with_crlf },
            ))
        });
        Self(kept.collect())
    }

    fn has(&self, content: &Content, stamp: &Stamp) -> bool {
        let as_kept = || self.0.get(&(stamp.bytes, stamp.crc32c));
        content.is_what(stamp) || as_kept().is_some_and(|kept| content.is_what(kept))
    }
}

/// `content` without the Return-Path fields of its header section; `None` when it has none.
fn without_return_paths(content: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at, mut is_left_out, mut is_header) = (Vec::new(), 0, false, true);
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        let is_continued = line.starts_with(b" ") || line.starts_with(b"\t");
        let name = line.split(|octet| *octet == b':').next().unwrap_or_default();
        if is_header && !is_continued {
            is_header = name.len() < line.len();
            is_left_out = is_header && name.trim_ascii_end().eq_ignore_ascii_case(b"return-path");
        }
        if !is_header {
            break;
        }
        if !is_left_out {
            out.extend_from_slice(line);
        }
        at += line.len();
    }
    (out.len() < at).then(|| [&out, &content[at..]].concat())
}

/// Reads the folders of one root.
#[derive(Debug)]
pub struct Reader<'r, R> {
    /// The wall clock minus the monotonic one.
    pub wall_ahead_ns: i128,
    /// The key of a message's recipient by run and number: what is not to be told from the file. `None`: it is not looked at.
    pub recipient: R,
    /// What may have become of contents.
    pub kept: &'r Kept,
}

impl<R: Fn(&Stamp) -> Option<u32>> Reader<'_, R> {
    /// Everything below `root` in folders called `new` or `cur`.
    ///
    /// # Errors
    /// A folder or file cannot be read.
    pub fn deliveries(&self, root: &Path) -> io::Result<Vec<Delivery>> {
        let mut found = Vec::new();
        self.collect(root, false, &mut Held::default(), &mut found)?;
        Ok(found)
    }

    fn collect(&self, folder: &Path, holds_mail: bool, copy: &mut Held, found: &mut Vec<Delivery>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let holds_mail = entry.file_name() == "new" || entry.file_name() == "cur";
                self.collect(&entry.path(), holds_mail, copy, found)?;
            } else if holds_mail {
                found.extend(self.delivery(File::open(entry.path())?, copy)?);
            }
        }
        Ok(())
    }

    fn delivery(&self, mut file: File, copy: &mut Held) -> io::Result<Option<Delivery>> {
        let about = file.metadata()?;
        copy.octets.clear();
        (&mut file).take(HEAD_BYTES).read_to_end(&mut copy.octets)?;
        let Some(stamp) = stamp_of(&copy.octets[..])? else { return Ok(None) };
        let Some(recipient) = (self.recipient)(&stamp) else { return Ok(None) };
        copy.content.begin();
        while !copy.octets.is_empty() {
            copy.content.add(&copy.octets);
            copy.octets.clear();
            (&mut file).take(READ_BYTES as u64).read_to_end(&mut copy.octets)?;
        }
        let is_same = self.kept.has(&copy.content, &stamp);
        let wall_ns = i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
        Ok(Some(Delivery {
            run: stamp.run,
            recipient,
            seq: stamp.seq,
            at: Tick(u64::try_from(wall_ns - self.wall_ahead_ns).unwrap_or(0)),
            bytes: u32::try_from(about.size()).unwrap_or(u32::MAX),
            flags: if is_same { 0 } else { FLAG_DIFFERS },
        }))
    }
}

/// A file while it is read; used again for the next.
#[derive(Default)]
struct Held {
    octets: Vec<u8>,
    content: Content,
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

    fn reader(kept: &Kept) -> Reader<'_, impl Fn(&Stamp) -> Option<u32>> {
        Reader { wall_ahead_ns: 0, recipient: |stamp: &Stamp| (stamp.run == 7).then_some(5), kept }
    }

    #[test]
    fn only_what_is_delivered_counts() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for place in ["all/new", "all/tmp", "all/cur"] {
            fs::create_dir_all(root.path().join(place)).expect("made");
            fs::write(root.path().join(place).join("1.M2"), mail("Return-Path: <STAMP@load.test>")).expect("written");
        }
        let kept = Kept::default();
        let all = reader(&kept).deliveries(root.path()).expect("readable");
        assert_eq!(all.iter().map(|d| (d.run, d.seq, d.recipient)).collect::<Vec<_>>(), [(7, 42, 5), (7, 42, 5)]);
        assert!(all[0].at > Tick(1_600_000_000_000_000_000), "the wall clock, nothing taken away");
        let nobodys = Reader { wall_ahead_ns: 0, recipient: |_: &Stamp| None, kept: &kept };
        assert!(nobodys.deliveries(root.path()).expect("readable").is_empty());
    }

    /// One file with `front` and `content` where `sent` was: whether it is told as changed.
    fn is_told_as_changed(sent: &[u8], front: &str, content: &[u8], kept: &Kept) -> bool {
        let stamp =
            Stamp { bytes: sent.len() as u64, crc32c: crc32c(sent), ends_with_crlf: sent.ends_with(b"\r\n"), ..STAMP };
        let mut local = String::new();
        stamp.write(&mut local);
        let root = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(root.path().join("new")).expect("made");
        let file = [format!("Return-Path: <{local}@load.test>\r\n{front}").as_bytes(), content].concat();
        fs::write(root.path().join("new/1"), &file).expect("written");
        let found = reader(kept).deliveries(root.path()).expect("readable");
        assert_eq!((found.len(), found[0].bytes as usize), (1, file.len()));
        found[0].is(FLAG_DIFFERS)
    }

    #[test]
    fn a_copy_is_what_was_sent_behind_trace_or_is_told_as_changed() {
        const TRACE: &str = "Delivered-To: x@y.test\r\nReceived: from a\r\n\tby b; now\r\n";
        let large: Vec<u8> =
            [&b"Subject: x\r\n\r\n"[..], &(0..200_000u32).map(|n| (n % 251) as u8).collect::<Vec<_>>(), b"\r\n"]
                .concat();
        let none = Kept::default();
        let changed = |sent: &[u8], front: &str, content: &[u8]| is_told_as_changed(sent, front, content, &none);
        for sent in [&b"Subject: x\r\n\r\nbody\r\n"[..], b"\r\nno header\r\n", b"x", &large] {
            assert!(!changed(sent, TRACE, sent), "as it was sent");
            for at in [0, sent.len() / 2, sent.len() - 1] {
                let mut bent = sent.to_vec();
                bent[at] ^= 1;
                assert!(changed(sent, TRACE, &bent), "octet {at} of {}", sent.len());
            }
            assert!(changed(sent, TRACE, &sent[..sent.len() - 1]), "cut");
            assert!(changed(sent, TRACE, &[sent, b"x"].concat()), "with something behind it");
            assert!(changed(sent, "no trace\r\n", sent), "with something else in front");
        }
        assert!(!changed(b"a: b\r\n\r\nc", TRACE, b"a: b\r\n\r\nc\r\n"), "DATA ends with the end of a line");
    }

    #[test]
    fn m_079_a_return_path_that_was_sent_is_taken_away_and_that_alone() {
        for (sent, left) in [
            (&b"Return-Path: <a@b>\r\nTo: x\r\n\r\nb\r\n"[..], Some(&b"To: x\r\n\r\nb\r\n"[..])),
            (
                b"To: x\r\nRETURN-path :\r\n <a>\r\nCc: y\r\n\r\nReturn-Path: b\r\n",
                Some(b"To: x\r\nCc: y\r\n\r\nReturn-Path: b\r\n"),
            ),
            (b"To: x\r\n\r\nReturn-Path: <in the body>\r\n", None),
            (b"To: x\r\nno field\r\nReturn-Path: <behind the header>\r\n", None),
            (b"Return-Path-Not: a\r\n\r\n", None),
            (b"", None),
        ] {
            assert_eq!(without_return_paths(sent).as_deref(), left);
            let Some(left) = left else { continue };
            let kept = Kept::of([sent].into_iter());
            assert!(!is_told_as_changed(sent, "", left, &kept));
            assert!(!is_told_as_changed(sent, "", sent, &kept), "changed is what is neither");
            assert!(is_told_as_changed(sent, "", left, &Kept::default()), "nobody sent that");
            assert!(is_told_as_changed(sent, "", &left[1..], &kept));
        }
    }
}
