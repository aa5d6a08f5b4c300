//! The raw byte pump: what a hub hop costs without mail.
//!
//! Frames of a fixed size arrive on many connections, one at a time each; a batch of them is committed as the spool
//! commits (one write in flight, direct and durable, the next batch fills meanwhile), each is answered by one octet and
//! sent on, uncopied, over one connection to a sink. No protocol, no queue, no bookkeeping: the floor that a hub is
//! compared with, on the same driver, in the same run.

use crate::io::driver::{Conn, Driver, Next, Notify, Open, Stable};
use crate::io::launch::Program;
use crate::sys::slice::{BLOCK_BYTES, Budget, Fill, Pool, Slice};
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

/// Frames up to this size are packed into the batch by the one copy; larger ones are received into chunks of their own.
const PACKED_BYTES: usize = 12 << 10;
/// Octets of the file that batches are written to, from the start again at its end.
const FILE_BYTES: u64 = 64 << 20;
const BATCH_BYTES: usize = 1 << 20;
const PATIENCE: Span = Span::seconds(60);

/// What the pump is told.
#[derive(Debug, Clone)]
pub struct PumpOptions {
    /// Where frames arrive. Every shard listens here.
    pub listen: SocketAddr,
    /// Where they go.
    pub sink: SocketAddr,
    /// Octets per frame.
    pub frame_bytes: usize,
    /// The folder for the log; `None` answers from memory.
    pub folder: Option<PathBuf>,
    /// Whether an answer means stable storage, or the kernel's hands.
    pub stable: Stable,
}

/// The pump as a program for shards.
#[derive(Debug, Clone)]
pub struct Pump(pub Arc<PumpOptions>);

impl Program for Pump {
    async fn run<D: Driver>(self, driver: D, shard: usize) {
        let options = self.0;
        let pump = Rc::new(Shard::<D>::open(driver.clone(), options.clone(), shard).await);
        let listener = driver.listen(options.listen).expect("the pump's address is free");
        driver.spawn(send_on(pump.clone()));
        driver.spawn(commit(pump.clone()));
        loop {
            let Ok(conn) = driver.accept(&listener).await else { continue };
            driver.spawn(receive(pump.clone(), conn));
        }
    }
}

type Handle<D> = <<D as Driver>::Conn as Conn>::Handle;

struct Frame<H> {
    from: Rc<Source<H>>,
    /// Where it stands once the batch is sealed: packed frames are cut from the batch.
    content: Content,
}

enum Content {
    Packed,
    Own(Slice),
}

struct Source<H> {
    handle: H,
    acks: Cell<usize>,
}

struct Shard<D: Driver> {
    driver: D,
    options: Arc<PumpOptions>,
    file: Option<D::File>,
    pool: Pool,
    batch: RefCell<Fill>,
    waiting: RefCell<Vec<Frame<Handle<D>>>>,
    /// Whose frames found no room in the batch: they are told when the next one begins.
    hungry: RefCell<Vec<Rc<Source<Handle<D>>>>>,
    committer: RefCell<Option<Waker>>,
    outgoing: RefCell<Vec<Slice>>,
    sender: RefCell<Option<Handle<D>>>,
}

impl<D: Driver> Shard<D> {
    async fn open(driver: D, options: Arc<PumpOptions>, shard: usize) -> Self {
        let file = match &options.folder {
            None => None,
            Some(folder) => {
                let dir = driver.root(folder).expect("the pump's folder opens");
                let name = format!("pump-{shard}");
                let how = Open::Create { direct: options.stable == Stable::Yes };
                let file = driver.open(&dir, &name, how).await.expect("the pump's file is new");
                driver.allocate(&file, FILE_BYTES).await.expect("the pump's file fits");
                Some(file)
            }
        };
        let pool = Pool::new(Budget::new(1 << 30));
        let batch = RefCell::new(pool.fill(BATCH_BYTES).expect("a fresh pool"));
        Self {
            driver,
            options,
            file,
            pool,
            batch,
            waiting: RefCell::default(),
            hungry: RefCell::default(),
            committer: RefCell::default(),
            outgoing: RefCell::default(),
            sender: RefCell::default(),
        }
    }

    /// A frame is complete: it joins the batch that is being filled.
    fn add(&self, from: &Rc<Source<Handle<D>>>, content: Content) {
        self.waiting.borrow_mut().push(Frame { from: from.clone(), content });
        if let Some(waker) = self.committer.borrow_mut().take() {
            waker.wake();
        }
    }

    fn pack(&self, from: &Rc<Source<Handle<D>>>, frame: &[u8]) -> bool {
        let mut batch = self.batch.borrow_mut();
        if batch.room() < frame.len().next_multiple_of(BLOCK_BYTES) {
            self.hungry.borrow_mut().push(from.clone());
            return false;
        }
        batch.put(frame);
        drop(batch);
        self.add(from, Content::Packed);
        true
    }
}

async fn receive<D: Driver>(pump: Rc<Shard<D>>, mut conn: D::Conn) {
    let from = Rc::new(Source { handle: conn.handle(), acks: Cell::new(0) });
    let frame_bytes = pump.options.frame_bytes;
    let mut chunk: Option<Fill> = None;
    loop {
        if frame_bytes > PACKED_BYTES && chunk.is_none() {
            let mut fill = pump.pool.fill(frame_bytes.next_multiple_of(BLOCK_BYTES)).expect("memory for a frame");
            fill.limit(frame_bytes);
            chunk = Some(fill);
        }
        let by = pump.driver.now() + PATIENCE;
        let next = conn
            .next(by, |octets| match &mut chunk {
                None => {
                    let mut packed = 0;
                    while octets.len() - packed >= frame_bytes
                        && pump.pack(&from, &octets[packed..packed + frame_bytes])
                    {
                        packed += frame_bytes;
                    }
                    (packed, ())
                }
                Some(chunk) => (chunk.put(octets), ()),
            })
            .await;
        match next {
            Next::Note(_) => {
                for _ in 0..from.acks.take() {
                    conn.put(b"+");
                }
            }
            Next::Filled(fill, _) => chunk = Some(fill),
            Next::Bytes(()) | Next::Room => {}
            Next::End | Next::Broken(_) | Next::Deadline => return,
        }
        match chunk.take() {
            Some(mut fill) if fill.room() == 0 => pump.add(&from, Content::Own(fill.take())),
            Some(fill) if fill.filled() > 0 => {
                conn.aim(fill);
            }
            other => chunk = other,
        }
    }
}

async fn commit<D: Driver>(pump: Rc<Shard<D>>) {
    let mut at = 0;
    let mut frames = Vec::new();
    loop {
        std::future::poll_fn(|context| {
            if !pump.waiting.borrow().is_empty() {
                return Poll::Ready(());
            }
            *pump.committer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        // What arrived in this turn still joins.
        pump.driver.yield_now().await;
        std::mem::swap(&mut frames, &mut *pump.waiting.borrow_mut());
        let (packed, mut parts) = seal(&pump, &frames);
        if let Some(file) = &pump.file {
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            if at + bytes as u64 > FILE_BYTES {
                at = 0;
            }
            let mut done = 0;
            while done < bytes {
                let (written, back) = pump.driver.write(file, parts, at + done as u64, pump.options.stable).await;
                done += written.expect("the pump's disk works");
                assert!(done == bytes || back.len() > 512, "only a long list is written in pieces");
                parts = rest(back, done);
            }
            at += bytes as u64;
        }
        answer(&pump, &packed, &mut frames);
    }
}

fn rest(mut parts: Vec<Slice>, mut done: usize) -> Vec<Slice> {
    parts.retain(|part| {
        let keep = done < part.len();
        done = done.saturating_sub(part.len());
        keep
    });
    parts
}

/// The packed frames, and everything to be written: whole blocks.
fn seal<D: Driver>(pump: &Shard<D>, frames: &[Frame<Handle<D>>]) -> (Option<Slice>, Vec<Slice>) {
    let mut parts = Vec::with_capacity(frames.len() + 1);
    for frame in frames {
        if let Content::Own(slice) = &frame.content {
            parts.push(slice.sub(0..slice.len() / BLOCK_BYTES * BLOCK_BYTES));
        }
    }
    let mut batch = pump.batch.borrow_mut();
    if batch.filled() == 0 {
        return (None, parts);
    }
    batch.pad_to(BLOCK_BYTES);
    let packed = batch.take();
    if batch.room() < BATCH_BYTES / 4 {
        *batch = pump.pool.fill(BATCH_BYTES).expect("memory for a batch");
    }
    // A note shows a connection again what it could not pack.
    pump.hungry.borrow_mut().drain(..).for_each(|source| source.handle.note(1));
    parts.push(packed.clone());
    (Some(packed), parts)
}

fn answer<D: Driver>(pump: &Shard<D>, packed: &Option<Slice>, frames: &mut Vec<Frame<Handle<D>>>) {
    let frame_bytes = pump.options.frame_bytes;
    let mut outgoing = pump.outgoing.borrow_mut();
    let mut cut = 0;
    for frame in frames.drain(..) {
        outgoing.push(match (frame.content, packed) {
            (Content::Own(slice), _) => slice,
            (Content::Packed, Some(packed)) => {
                cut += frame_bytes;
                packed.sub(cut - frame_bytes..cut)
            }
            (Content::Packed, None) => unreachable!("a packed frame stands in the batch"),
        });
        frame.from.acks.set(frame.from.acks.get() + 1);
        frame.from.handle.note(1);
    }
    drop(outgoing);
    if let Some(sender) = &*pump.sender.borrow() {
        sender.note(1);
    }
}

async fn send_on<D: Driver>(pump: Rc<Shard<D>>) {
    let connected = pump.driver.connect(pump.options.sink, pump.driver.now() + PATIENCE).await;
    let mut conn = connected.expect("the pump's sink listens");
    *pump.sender.borrow_mut() = Some(conn.handle());
    loop {
        for slice in pump.outgoing.borrow_mut().drain(..) {
            conn.push(slice);
        }
        match conn.next(Tick::NEVER, |octets| (octets.len(), ())).await {
            Next::End | Next::Broken(_) => return,
            _ => {}
        }
    }
}

/// Discards what it receives, and counts it.
#[derive(Debug, Clone)]
pub struct PumpSink {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Octets received so far, by all shards.
    pub received_bytes: Arc<AtomicU64>,
}

impl Program for PumpSink {
    async fn run<D: Driver>(self, driver: D, _shard: usize) {
        let listener = driver.listen(self.listen).expect("the sink's address is free");
        loop {
            let Ok(mut conn) = driver.accept(&listener).await else { continue };
            let received = self.received_bytes.clone();
            driver.spawn(async move {
                loop {
                    match conn.next(Tick::NEVER, |octets| (octets.len(), octets.len())).await {
                        Next::Bytes(octets) => {
                            received.fetch_add(octets as u64, Ordering::Relaxed);
                        }
                        Next::End | Next::Broken(_) => return,
                        _ => {}
                    }
                }
            });
        }
    }
}

/// Sends frames in a closed loop: the next when the one before is answered.
#[derive(Debug, Clone)]
pub struct PumpSource {
    /// The pump.
    pub target: SocketAddr,
    /// Connections of each shard.
    pub connections: usize,
    /// Octets per frame.
    pub frame_bytes: usize,
    /// Sent and answered so far.
    pub answered: Arc<AtomicU64>,
    /// Ends the run when true.
    pub stop: Arc<std::sync::atomic::AtomicBool>,
    /// Each answer's time in microseconds goes here.
    pub latency_us: Arc<std::sync::Mutex<Vec<u32>>>,
}

impl Program for PumpSource {
    async fn run<D: Driver>(self, driver: D, _shard: usize) {
        let pool = Pool::new(Budget::new(64 << 20));
        let frame = a_frame(&pool, self.frame_bytes);
        let alive = Rc::new(Cell::new(self.connections));
        let times = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..self.connections {
            let done = alive.clone();
            let send = send_frames(driver.clone(), self.clone(), frame.clone(), times.clone());
            driver.spawn(async move {
                send.await;
                done.set(done.get() - 1);
            });
        }
        while alive.get() > 0 {
            driver.sleep(Span::millis(20)).await;
        }
        self.latency_us.lock().expect("no panic").append(&mut times.borrow_mut());
    }
}

fn a_frame(pool: &Pool, bytes: usize) -> Slice {
    let mut fill = pool.fill(bytes).expect("memory for a frame");
    fill.limit(bytes);
    fill.spare().fill(b'x');
    fill.advance(bytes);
    fill.take()
}

async fn send_frames<D: Driver>(driver: D, source: PumpSource, frame: Slice, times: Rc<RefCell<Vec<u32>>>) {
    let connected = driver.connect(source.target, driver.now() + PATIENCE).await;
    let mut conn = connected.expect("the pump listens");
    while !source.stop.load(Ordering::Relaxed) {
        let begun = driver.now();
        conn.push(frame.clone());
        loop {
            match conn.next(driver.now() + PATIENCE, |octets| (octets.len(), octets.len())).await {
                Next::Bytes(_) => break,
                Next::Room => {}
                _ => return,
            }
        }
        source.answered.fetch_add(1, Ordering::Relaxed);
        let micros = driver.now().since(begun).as_micros();
        times.borrow_mut().push(u32::try_from(micros).unwrap_or(u32::MAX));
    }
}
