//! The receiving half of a connection as plain state: what was received and not yet consumed, whether it is to be shown
//! again, the aimed chunk, and how the stream ended. It reads nothing; `conn` feeds it.

use crate::io::driver::UNREAD_BYTES;
use crate::sys::slice::Fill;
use std::io;

/// How far the receiving direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// The peer's FIN was read.
    Fin,
    /// Reset or a failed transport.
    Broken(io::ErrorKind),
}

/// Received and unconsumed octets, and how they end.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Unconsumed octets are `unread[start..]`.
    unread: Vec<u8>,
    start: usize,
    /// Whether `unread` may be shown: it grew, or a note or an aim came between.
    fresh: bool,
    aim: Option<Fill>,
    ending: Ending,
    told: bool,
    /// At most so many octets are received and not consumed.
    room: usize,
}

/// What `unread` may keep allocated while nothing is unread.
const KEPT_BYTES: usize = 1 << 10;

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            unread: Vec::new(),
            start: 0,
            fresh: false,
            aim: None,
            ending: Ending::Open,
            told: false,
            room: usize::MAX,
        }
    }

    /// Octets received and not consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread[self.start..]
    }

    /// As `Conn::set_receive_room`.
    pub(crate) fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// How many octets may be received to be shown: 0 for none now. The end of the stream is no octet, and yet it is
    /// not looked for then.
    pub(crate) fn room(&self) -> usize {
        let unread = self.unread().len();
        if self.is_open() && unread < UNREAD_BYTES { self.room.saturating_sub(unread) } else { 0 }
    }

    /// Lets what is unread be shown again.
    pub(crate) fn renew(&mut self) {
        self.fresh = true;
    }

    /// Whether `show` would show something.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh && !self.unread().is_empty()
    }

    /// Keeps `bytes` behind what is unread.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.compact();
        self.unread.extend_from_slice(bytes);
        self.fresh |= !bytes.is_empty();
    }

    /// Puts `bytes` in front of what is unread.
    pub(crate) fn give_back(&mut self, bytes: &[u8]) {
        self.unread.splice(..self.start, bytes.iter().copied());
        self.start = 0;
        self.fresh |= !bytes.is_empty();
    }

    /// Shows what is unread and consumes what `see` says.
    ///
    /// # Panics
    /// When `see` consumes more than it was shown.
    pub(crate) fn show<R>(&mut self, see: impl FnOnce(&[u8]) -> (usize, R)) -> R {
        self.fresh = false;
        let (consumed, answer) = see(self.unread());
        self.consume(consumed);
        answer
    }

    /// Shows `bytes`, which arrived while nothing was unread, and keeps what `see` leaves. Returns its answer and how
    /// many octets were kept.
    ///
    /// # Panics
    /// As `show`.
    pub(crate) fn show_directly<R>(&mut self, bytes: &[u8], see: impl FnOnce(&[u8]) -> (usize, R)) -> (R, usize) {
        let (consumed, answer) = see(bytes);
        assert!(consumed <= bytes.len(), "consumed more than was shown");
        self.append(&bytes[consumed..]);
        self.fresh = false;
        (answer, bytes.len() - consumed)
    }

    fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.unread().len(), "consumed more than was shown");
        self.start += bytes;
        if self.unread().is_empty() {
            self.unread.clear();
            self.unread.shrink_to(KEPT_BYTES);
            self.start = 0;
        }
    }

    /// Moves what is unread to the front before it grows, so that a long-lived connection does not creep through memory.
    fn compact(&mut self) {
        if self.start > 0 {
            self.unread.drain(..self.start);
            self.start = 0;
        }
    }

    /// Aims at `into`.
    ///
    /// # Panics
    /// When a chunk is aimed at already, or `into` has no room.
    pub(crate) fn aim(&mut self, into: Fill) {
        assert!(self.aim.is_none(), "a chunk is aimed at already");
        assert!(into.room() > 0, "the aimed chunk has room");
        self.aim = Some(into);
    }

    /// The aimed chunk, with what was unread moved into it, and how many octets that was. `None` without an aim.
    pub(crate) fn take_aim(&mut self) -> Option<(Fill, usize)> {
        let mut fill = self.aim.take()?;
        let moved = fill.put(self.unread());
        self.consume(moved);
        Some((fill, moved))
    }

    /// Puts the chunk of `take_aim` back: nothing came.
    pub(crate) fn keep_aim(&mut self, fill: Fill) {
        debug_assert!(self.aim.is_none(), "taken before it is put back");
        self.aim = Some(fill);
    }

    /// Whether more may arrive.
    pub(crate) fn is_open(&self) -> bool {
        self.ending == Ending::Open
    }

    /// Whether the peer's FIN was read.
    pub(crate) fn is_finished(&self) -> bool {
        self.ending == Ending::Fin
    }

    /// The peer sends no more.
    pub(crate) fn finish(&mut self) {
        if self.ending == Ending::Open {
            self.ending = Ending::Fin;
        }
    }

    /// The connection is gone. An end that was told before is followed by this.
    pub(crate) fn break_off(&mut self, kind: io::ErrorKind) {
        if !matches!(self.ending, Ending::Broken(_)) {
            self.ending = Ending::Broken(kind);
            self.told = false;
        }
    }

    /// The end, once, when everything before it was shown: `Ok` for FIN, `Err` for a broken connection.
    pub(crate) fn tell_end(&mut self) -> Option<Result<(), io::ErrorKind>> {
        if self.told || self.is_fresh() {
            return None;
        }
        let end = match self.ending {
            Ending::Open => return None,
            Ending::Fin => Ok(()),
            Ending::Broken(kind) => Err(kind),
        };
        self.told = true;
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::slice::{Budget, Pool};

    fn fill(room: usize) -> Fill {
        let mut fill = Pool::new(Budget::new(1 << 20)).fill(room).expect("within budget");
        fill.limit(room);
        fill
    }

    #[test]
    fn what_is_left_is_shown_again_only_when_renewed_or_grown() {
        let mut inbox = Inbox::new();
        let (answer, kept) = inbox.show_directly(b"HELO x\r\nMA", |bytes| (8, bytes.len()));
        assert_eq!((answer, kept), (10, 2));
        assert!(!inbox.is_fresh());
        inbox.renew();
        assert!(inbox.is_fresh());
        inbox.show(|bytes| {
            assert_eq!(bytes, b"MA");
            (0, ())
        });
        assert!(!inbox.is_fresh());
        inbox.append(b"IL");
        inbox.show(|bytes| {
            assert_eq!(bytes, b"MAIL");
            (4, ())
        });
        inbox.renew();
        assert!(!inbox.is_fresh());
    }

    #[test]
    fn no_more_is_received_than_there_is_room_for_beside_what_is_unread() {
        let mut inbox = Inbox::new();
        assert_eq!(inbox.room(), usize::MAX);
        inbox.set_room(10);
        inbox.append(b"abcd");
        assert_eq!(inbox.room(), 6);
        inbox.show(|_| (3, ()));
        assert_eq!(inbox.room(), 9);
        inbox.set_room(1);
        assert_eq!(inbox.room(), 0);
        inbox.set_room(usize::MAX);
        inbox.append(&[b'x'; UNREAD_BYTES]);
        assert_eq!(inbox.room(), 0, "enough is unread");
        inbox.show(|octets| (octets.len(), ()));
        inbox.finish();
        assert_eq!(inbox.room(), 0, "nothing more comes");
    }

    #[test]
    fn given_back_octets_come_first() {
        let mut inbox = Inbox::new();
        inbox.append(b"xcd");
        inbox.show(|_| (1, ()));
        inbox.give_back(b"ab");
        assert!(inbox.is_fresh());
        inbox.show(|bytes| {
            assert_eq!(bytes, b"abcd");
            (4, ())
        });
    }

    #[test]
    fn an_aim_takes_what_is_unread_first_and_no_more_than_fits() {
        let mut inbox = Inbox::new();
        inbox.append(b"bodyNEXT");
        inbox.aim(fill(4));
        let (mut chunk, moved) = inbox.take_aim().expect("aimed");
        assert_eq!((moved, &*chunk.take()), (4, &b"body"[..]));
        assert_eq!(inbox.unread(), b"NEXT");
        assert!(inbox.take_aim().is_none());
    }

    #[test]
    fn the_end_is_told_once_and_after_everything_else() {
        let mut inbox = Inbox::new();
        inbox.append(b"QUIT");
        inbox.finish();
        assert_eq!(inbox.tell_end(), None);
        inbox.show(|_| (0, ()));
        assert_eq!(inbox.tell_end(), Some(Ok(())));
        assert_eq!(inbox.tell_end(), None);
        inbox.break_off(io::ErrorKind::ConnectionReset);
        assert_eq!(inbox.tell_end(), Some(Err(io::ErrorKind::ConnectionReset)));
        inbox.break_off(io::ErrorKind::TimedOut);
        assert_eq!(inbox.tell_end(), None);
    }
}
