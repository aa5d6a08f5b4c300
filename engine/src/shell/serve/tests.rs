//! A session whose large body nobody takes on at the moment: what it hears meanwhile.

use super::*;
use crate::io::epoll::{self, Epoll};
use crate::smtp::Dialect;
use crate::smtp::server::AcceptAll;
use crate::sys::slice::Budget;
use crate::track::counters::Board;
use std::cell::{Cell, RefCell};

/// Octets of the large body.
const LARGE: usize = 400_000;

/// Takes messages and says nothing about them by itself; of a large body it takes no more while it is backed up.
struct Keeper {
    pool: Pool,
    chunk_bytes: usize,
    backed_up: Cell<bool>,
    /// Octets of large bodies handed over.
    spilled: Cell<u64>,
    arrived: RefCell<Vec<(Rc<Inlet<Epoll>>, Slot)>>,
}

impl Service<Epoll> for Keeper {
    type Spill = ();

    const HELD_BYTES_MAX: usize = 64 << 10;

    fn policy(&self) -> &dyn Policy {
        &AcceptAll
    }
    fn pool(&self) -> &Pool {
        &self.pool
    }
    fn chunk_bytes_max(&self) -> usize {
        self.chunk_bytes
    }
    fn spill_bytes(&self, _: bool) -> usize {
        16 << 10
    }
    fn spill(&self, _: &ServerSession, _: &Rc<Inlet<Epoll>>, (): &mut (), _: Slices, more: u64) -> Result<(), Refusal> {
        self.spilled.set(self.spilled.get() + more);
        Ok(())
    }
    fn held_bytes(&self, (): &()) -> u64 {
        if self.backed_up.get() { Self::HELD_BYTES_MAX as u64 } else { 0 }
    }
    fn abandon(&self, (): ()) {}
    fn message(&self, arrived: Arrived<'_, Epoll, ()>) {
        self.arrived.borrow_mut().push((arrived.inlet.clone(), arrived.slot));
    }
}

/// A client behind a small message that owes its verdict and a large one that is backed up.
struct World {
    driver: Epoll,
    keeper: Rc<Keeper>,
    client: <Epoll as Driver>::Conn,
    heard: String,
}

impl World {
    async fn start(driver: Epoll) -> Self {
        let mut world = Self::meet(driver, ServerOptions::new(Profile::Bench, "keeper.test"), 16 << 10).await;
        world.keeper.backed_up.set(true);
        let envelope = "MAIL FROM:<ann@a.test>\r\nRCPT TO:<bob@b.test>\r\n";
        world.client.put(format!("{envelope}BDAT 14 LAST\r\nSubject: x\r\n\r\n").as_bytes());
        world.client.put(format!("{envelope}BDAT {LARGE} LAST\r\n").as_bytes());
        world.client.put(&vec![b'x'; LARGE]);
        world.until("some of the large body", |keeper| keeper.spilled.get() > 0).await;
        world
    }

    /// A client that has said EHLO.
    async fn meet(driver: Epoll, options: ServerOptions, chunk_bytes: usize) -> Self {
        let keeper = Rc::new(Keeper {
            pool: Pool::new(Budget::new(8 << 20)),
            chunk_bytes,
            backed_up: Cell::new(false),
            spilled: Cell::default(),
            arrived: RefCell::default(),
        });
        let listener = driver.listen(([127, 0, 0, 1], 0).into()).expect("a port");
        let at = driver.local(&listener).expect("bound");
        let dialect = options.dialect;
        let options = Arc::new(options);
        let (server, service) = (driver.clone(), keeper.clone());
        driver.spawn(async move {
            let conn = server.accept(&listener).await.expect("a client");
            let lobby = Lobby::new(Rc::new(Board::new(1).1.remove(0)));
            let inlet = Rc::new(Inlet::new(conn.handle()));
            serve(server, service, options, conn, Admission { inlet, trusted: false, refuse: None, lobby }).await;
        });
        let mut client = driver.connect(at, driver.now() + Span::seconds(60)).await.expect("it listens");
        let hello = if dialect == Dialect::Lmtp { "LHLO" } else { "EHLO" };
        client.put(format!("{hello} c.test\r\n").as_bytes());
        let mut world = Self { driver, keeper, client, heard: String::new() };
        world.hear(Some("\n250 ")).await;
        world
    }

    /// The client goes on sending and hearing until this is so.
    async fn until(&mut self, what: &str, condition: impl Fn(&Keeper) -> bool) {
        let by = self.driver.now() + Span::seconds(60);
        while !condition(&self.keeper) {
            assert!(self.driver.now() < by, "{what}");
            let soon = self.driver.now() + Span::millis(1);
            match self.client.next(soon, |octets| (octets.len(), octets.to_vec())).await {
                Next::Bytes(octets) => self.heard.push_str(&String::from_utf8_lossy(&octets)),
                Next::Room | Next::Deadline => {}
                other => panic!("{other:?} before {what} after {}", self.heard),
            }
        }
    }

    /// Hears until `wanted` comes, or with `None` until the end.
    async fn hear(&mut self, wanted: Option<&str>) {
        while wanted.is_none_or(|wanted| !self.heard.contains(wanted)) {
            let by = self.driver.now() + Span::seconds(60);
            match self.client.next(by, |octets| (octets.len(), octets.to_vec())).await {
                Next::Bytes(octets) => self.heard.push_str(&String::from_utf8_lossy(&octets)),
                Next::End | Next::Broken(_) if wanted.is_none() => return,
                Next::Room => {}
                other => panic!("{other:?} in place of {wanted:?} after {}", self.heard),
            }
        }
    }

    fn inlet(&self) -> (Rc<Inlet<Epoll>>, Slot) {
        self.keeper.arrived.borrow().last().cloned().expect("a message")
    }

    fn accept(&self, id: u64) {
        let (inlet, slot) = self.inlet();
        inlet.answer(slot, Answer::Accepted { id, message_id: None });
    }

    /// The taker of the body goes on.
    fn go_on(&self) {
        self.keeper.backed_up.set(false);
        self.inlet().0.note(bits::AGAIN);
    }
}

#[test]
fn f_040_a_large_envelope_is_charged_until_its_transaction_or_the_session_ends() {
    let alone = async |driver: Epoll| {
        let mut world = World::meet(driver, ServerOptions::new(Profile::Bench, "keeper.test"), 16 << 10).await;
        let charged = |keeper: &Keeper| keeper.pool.budget().leased_bytes();
        let recipients: String = (0..900).map(|number| format!("RCPT TO:<{number:060}@b.test>\r\n")).collect();
        for end in ["RSET\r\n", "EHLO c.test\r\n", "BDAT 0 LAST\r\n", ""] {
            world.client.put(format!("MAIL FROM:<ann@a.test>\r\n{recipients}").as_bytes());
            world.until("all of it", |keeper| charged(keeper) > 60_000).await;
            let all = charged(&world.keeper);
            assert!(all < 256 << 10 && world.keeper.pool.budget().held_bytes() >= all, "{all} octets");
            world.client.put(end.as_bytes());
            if !end.is_empty() {
                world.until("it to be given back", |keeper| charged(keeper) == 0).await;
            }
        }
        let World { driver, keeper, client, .. } = world;
        client.abort();
        let by = driver.now() + Span::seconds(60);
        while charged(&keeper) > 0 {
            assert!(driver.now() < by, "{} octets are charged to nobody", charged(&keeper));
            driver.sleep(Span::millis(1)).await;
        }
    };
    epoll::run(&epoll::Options::default(), alone).expect("the driver runs");
}

fn backed_up(test: impl AsyncFnOnce(World)) {
    let run = epoll::run(&epoll::Options::default(), async |driver| test(World::start(driver).await).await);
    run.expect("runs");
}

#[test]
fn a_verdict_reaches_a_client_whose_next_body_is_held_up() {
    backed_up(async |mut world| {
        world.accept(1);
        world.hear(Some("Queued as")).await;
        assert_eq!(world.keeper.arrived.borrow().len(), 1, "the next one is under way");
        world.go_on();
        world.until("the rest", |keeper| keeper.arrived.borrow().len() == 2).await;
    });
}

/// M-049 by LMTP: who may have a copy and may not hears nothing, and nobody behind him does.
#[test]
fn m_049_m_213_replies_end_where_nothing_may_be_said() {
    let run = epoll::run(&epoll::Options::default(), async |driver| {
        let options = ServerOptions { dialect: Dialect::Lmtp, ..ServerOptions::new(Profile::Bench, "keeper.test") };
        let mut world = World::meet(driver, options, 16 << 10).await;
        let to = ["bob", "cy", "di"].map(|to| format!("RCPT TO:<{to}@b.test>\r\n")).concat();
        world.client.put(format!("MAIL FROM:<ann@a.test>\r\n{to}BDAT 14 LAST\r\nSubject: x\r\n\r\n").as_bytes());
        world.until("the message", |keeper| keeper.arrived.borrow().len() == 1).await;
        let (inlet, slot) = world.inlet();
        inlet.answer(slot, Answer::Each { id: 1, outcomes: vec![None, Some(NO_MEMORY)] });
        world.hear(None).await;
        let replies = world.heard.lines().filter(|line| line.contains("Queued as") || line.starts_with("452"));
        assert_eq!(replies.count(), 2, "{}", world.heard);
        assert!(world.heard.lines().last().is_some_and(|line| line.starts_with("452 4.3.1")), "{}", world.heard);
    });
    run.expect("runs");
}

#[test]
fn f_010_a_drain_while_a_body_is_held_up_ends_the_session_behind_it() {
    backed_up(async |mut world| {
        world.inlet().0.note(bits::DRAIN);
        world.accept(1);
        world.hear(Some("Queued as")).await;
        world.go_on();
        world.until("the rest", |keeper| keeper.arrived.borrow().len() == 2).await;
        world.accept(2);
        world.hear(None).await;
        assert_eq!(world.heard.matches("Queued as").count(), 2, "{}", world.heard);
        assert!(world.heard.lines().last().is_some_and(|line| line.starts_with("421 4.3.2")), "{}", world.heard);
    });
}

#[test]
fn f_010_the_last_call_ends_a_session_whose_body_is_held_up() {
    backed_up(async |mut world| {
        world.accept(1);
        world.hear(Some("Queued as")).await;
        world.inlet().0.note(bits::LAST_CALL);
        // What is left unread may cost the client the last line.
        world.hear(None).await;
        assert_eq!(world.keeper.arrived.borrow().len(), 1, "half a body is none");
    });
}

#[test]
fn a_body_far_beyond_what_is_taken_ends_the_session_although_one_receive_brought_it() {
    let alone = async |driver: Epoll| {
        let options = ServerOptions { size_max: 20_000, ..ServerOptions::new(Profile::Bench, "keeper.test") };
        let mut world = World::meet(driver, options, 48 << 10).await;
        world.client.put(b"MAIL FROM:<ann@a.test>\r\nRCPT TO:<bob@b.test>\r\nDATA\r\n");
        world.hear(Some("354 ")).await;
        // So much that what follows is received straight into its chunk, and less than is taken.
        world.client.put(&[b'x'; 17_000]);
        world.until("the beginning of a large body", |keeper| keeper.spilled.get() > 0).await;
        world.client.put(&[b'x'; 60_000]);
        // What is left unread may cost the client the last line.
        world.hear(None).await;
    };
    epoll::run(&epoll::Options::default(), alone).expect("the driver runs");
}
