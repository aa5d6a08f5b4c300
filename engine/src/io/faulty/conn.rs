//! A connection that is reset or stalls by the script.

use super::script::{Fault, Faults, Op};
use crate::io::driver::{Conn, Driver, Next};
use crate::sys::slice::{Fill, Slice};
use crate::wire::Tick;
use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// How the script has treated the connection so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// Until the script is healed more often than this.
    Stalled(u64),
    /// Reset; whether that was told.
    Cut(bool),
}

/// A connection of a faulty driver.
pub struct FaultyConn<D: Driver> {
    /// Taken only by the end.
    inner: Option<D::Conn>,
    driver: D,
    faults: Faults,
    state: State,
    peer: SocketAddr,
}

impl<D: Driver> FaultyConn<D> {
    pub(super) fn new(driver: D, faults: Faults, inner: D::Conn) -> Self {
        Self { peer: inner.peer(), inner: Some(inner), driver, faults, state: State::Sound }
    }

    fn inner(&self) -> &D::Conn {
        self.inner.as_ref().expect("only the end takes it")
    }

    fn inner_mut(&mut self) -> &mut D::Conn {
        self.inner.as_mut().expect("only the end takes it")
    }

    /// Asks the script about one operation.
    fn meet(&mut self, op: Op) {
        if let State::Stalled(heals) = self.state
            && self.faults.heals() > heals
        {
            self.state = State::Sound;
        }
        if self.state != State::Sound {
            return;
        }
        match self.faults.begin(op, &self.peer.to_string()).effect {
            Some(Fault::Reset) => self.state = State::Cut(false),
            Some(Fault::Stalls) => self.state = State::Stalled(self.faults.heals()),
            _ => {}
        }
    }

    /// Whether what is queued now goes out.
    fn sends(&mut self) -> bool {
        self.meet(Op::Send);
        !matches!(self.state, State::Cut(_))
    }

    /// Nothing until `by`, or until the script is healed.
    async fn stall(&mut self, by: Tick) -> bool {
        while let State::Stalled(heals) = self.state {
            if self.driver.precise_now() >= by {
                return true;
            }
            self.driver.sleep(super::LOOK).await;
            if self.faults.heals() > heals {
                self.state = State::Sound;
            }
        }
        false
    }

    /// Notes and deadlines only: whatever else the connection has to tell is lost with it.
    async fn after_the_cut<R>(&mut self, by: Tick) -> Next<R> {
        if self.state == State::Cut(false) {
            self.state = State::Cut(true);
            return Next::Broken(io::ErrorKind::ConnectionReset);
        }
        loop {
            match self.inner_mut().next(by, |bytes| (bytes.len(), ())).await {
                Next::Note(bits) => return Next::Note(bits),
                Next::Deadline => return Next::Deadline,
                _ => {}
            }
        }
    }
}

impl<D: Driver> Conn for FaultyConn<D> {
    type Handle = <D::Conn as Conn>::Handle;

    async fn next<R>(&mut self, by: Tick, see: impl FnOnce(&[u8]) -> (usize, R)) -> Next<R> {
        self.meet(Op::Receive);
        if self.stall(by).await {
            return Next::Deadline;
        }
        if matches!(self.state, State::Cut(_)) {
            return self.after_the_cut(by).await;
        }
        self.inner_mut().next(by, see).await
    }

    fn aim(&mut self, into: Fill) {
        self.inner_mut().aim(into);
    }

    fn give_back(&mut self, bytes: &[u8]) {
        self.inner_mut().give_back(bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.sends() {
            self.inner_mut().put(bytes);
        }
    }

    fn push(&mut self, slice: Slice) {
        if self.sends() {
            self.inner_mut().push(slice);
        }
    }

    fn unsent(&self) -> usize {
        self.inner().unsent()
    }

    fn sent_at(&self) -> Tick {
        self.inner().sent_at()
    }

    fn taken_at(&self) -> Tick {
        self.inner().taken_at()
    }

    fn set_send_room(&mut self, bytes: usize) {
        self.faults.note_send_room(bytes);
        self.inner_mut().set_send_room(bytes);
    }

    fn set_receive_room(&mut self, bytes: usize) {
        self.inner_mut().set_receive_room(bytes);
    }

    fn keep(&mut self, held: Rc<dyn Any>) {
        self.inner_mut().keep(held);
    }

    fn finish(&mut self) {
        if self.sends() {
            self.inner_mut().finish();
        }
    }

    fn abort(mut self) {
        if let Some(inner) = self.inner.take() {
            inner.abort();
        }
    }

    fn handle(&self) -> Self::Handle {
        self.inner().handle()
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn local(&self) -> SocketAddr {
        self.inner().local()
    }
}

impl<D: Driver> Drop for FaultyConn<D> {
    fn drop(&mut self) {
        if let (State::Cut(_), Some(inner)) = (self.state, self.inner.take()) {
            inner.abort();
        }
    }
}
