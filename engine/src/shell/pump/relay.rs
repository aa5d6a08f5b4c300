//! The pump's middle: receives, commits, acknowledges, sends on, and reads the answers.

use super::{ANSWER, Ending, Form, Place, PumpError, PumpOptions};
use crate::io::driver::{Conn, Driver, Next, Notify, Open, Stable};
use crate::io::launch::Program;
use crate::sys::slice::{BLOCK_BYTES, Budget, Fill, Pool, Slice};
use crate::wire::Tick;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Frames up to this size are packed into the batch by the one copy; larger ones are received into chunks of their own.
const PACKED_BYTES: usize = 12 << 10;
/// Octets of the file that batches are written to, from the start again at its end.
const FILE_BYTES: u64 = 64 << 20;
/// Memory that packed frames are copied to, of one or more batches.
const BATCH_BYTES: usize = 1 << 20;
/// Octets of large frames that one write takes at most.
const WRITE_BYTES_MAX: usize = 32 << 20;
/// Octets of frames that are held until the sink has answered them; beyond it nothing more is received.
const HELD_BYTES_MAX: usize = 256 << 20;
const MEMORY_BYTES: usize = 1 << 30;

/// The relay as a program for shards.
#[derive(Debug, Clone)]
pub struct Pump(pub Arc<PumpOptions>);

impl Program for Pump {
    async fn run<D: Driver>(self, driver: D, shard: usize) {
        let trouble = self.0.trouble.clone();
        let Err(error) = relay(self.0, driver, shard).await;
        // Nobody listens any more: whoever started this is ending it.
        let _ = trouble.send(error);
    }
}

async fn relay<D: Driver>(options: Arc<PumpOptions>, driver: D, shard: usize) -> Result<Infallible, PumpError> {
    let pump = Rc::new(Shard::<D>::open(driver.clone(), options.clone(), shard).await?);
    let lines = match options.form {
        Form::Batched => 1,
        Form::OnePerWrite { connections } => connections.max(1),
    };
    for _ in 0..lines {
        pump.start(send_on(pump.clone()));
    }
    pump.start(commit(pump.clone()));
    let at = options.listen;
    let listener = driver.listen(at).map_err(|error| PumpError::Listen { place: Place::Relay, at, error })?;
    loop {
        let conn = driver.accept(&listener).await;
        let conn = conn.map_err(|error| PumpError::Listen { place: Place::Relay, at, error })?;
        let task = pump.clone();
        driver.spawn(async move {
            if let Err(error) = receive(&task, conn).await {
                task.fail(error);
            }
        });
    }
}

type Handle<D> = <<D as Driver>::Conn as Conn>::Handle;

struct Frame<H> {
    from: Rc<Source<H>>,
    content: Content,
}

enum Content {
    /// Stands in the batch, behind those that came before it.
    Packed,
    /// Whole blocks of its own.
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
    waiting: RefCell<VecDeque<Frame<Handle<D>>>>,
    /// Those for whose frames there was no room: they are told when there is.
    hungry: RefCell<Vec<Handle<D>>>,
    committer: RefCell<Option<Waker>>,
    /// Committed, and not yet taken by a connection to the sink.
    outgoing: RefCell<VecDeque<Slice>>,
    /// Connections to the sink that have nothing to send.
    idle: RefCell<Vec<Handle<D>>>,
    /// Octets of frames that are complete and not yet answered.
    held_bytes: Cell<usize>,
}

impl<D: Driver> Shard<D> {
    async fn open(driver: D, options: Arc<PumpOptions>, shard: usize) -> Result<Self, PumpError> {
        let file = match &options.folder {
            None => None,
            Some(folder) => {
                let made = log_file(&driver, folder, shard, options.stable).await;
                Some(made.map_err(|error| PumpError::Log { folder: folder.clone(), error })?)
            }
        };
        let pool = Pool::new(Budget::new(MEMORY_BYTES));
        let batch = RefCell::new(pool.fill(BATCH_BYTES).expect("a fresh pool"));
        Ok(Self {
            driver,
            options,
            file,
            pool,
            batch,
            waiting: RefCell::default(),
            hungry: RefCell::default(),
            committer: RefCell::default(),
            outgoing: RefCell::default(),
            idle: RefCell::default(),
            held_bytes: Cell::new(0),
        })
    }

    fn fail(&self, error: PumpError) {
        // Nobody listens any more: whoever started this is ending it.
        let _ = self.options.trouble.send(error);
    }

    /// Runs what never ends but by an error.
    fn start(self: &Rc<Self>, task: impl Future<Output = Result<Infallible, PumpError>> + 'static) {
        let pump = self.clone();
        self.driver.spawn(async move {
            let Err(error) = task.await;
            pump.fail(error);
        });
    }

    /// A frame is complete: it joins the batch that is being filled.
    fn add(&self, from: &Rc<Source<Handle<D>>>, content: Content) {
        self.held_bytes.set(self.held_bytes.get() + self.options.frame_bytes);
        self.waiting.borrow_mut().push_back(Frame { from: from.clone(), content });
        if let Some(waker) = self.committer.borrow_mut().take() {
            waker.wake();
        }
    }

    fn pack(&self, from: &Rc<Source<Handle<D>>>, frame: &[u8]) -> bool {
        let mut batch = self.batch.borrow_mut();
        if self.is_full() || batch.room() < frame.len().next_multiple_of(BLOCK_BYTES) {
            self.hungry.borrow_mut().push(from.handle.clone());
            return false;
        }
        batch.put(frame);
        drop(batch);
        self.add(from, Content::Packed);
        true
    }

    /// Moves the oldest frames that wait into a batch.
    fn join_batch(&self, batch: &mut Vec<Frame<Handle<D>>>, frames_max: usize) {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(frames_max);
        batch.extend(waiting.drain(..count));
    }

    /// Memory for one large frame, unless too much is held already.
    fn chunk(&self, from: &Source<Handle<D>>) -> Option<Fill> {
        let frame_bytes = self.options.frame_bytes;
        let fill = (!self.is_full()).then(|| self.pool.fill(frame_bytes.next_multiple_of(BLOCK_BYTES))).flatten();
        match fill {
            Some(mut fill) => {
                fill.limit(frame_bytes);
                Some(fill)
            }
            None => {
                self.hungry.borrow_mut().push(from.handle.clone());
                None
            }
        }
    }

    fn is_full(&self) -> bool {
        self.held_bytes.get() >= HELD_BYTES_MAX
    }

    /// `frames` were answered: their memory is free, and those who waited for it hear of it.
    fn release(&self, frames: usize) {
        self.held_bytes.set(self.held_bytes.get() - frames * self.options.frame_bytes);
        if !self.is_full() {
            self.feed();
        }
    }

    /// A note shows a connection again what it could not take.
    fn feed(&self) {
        self.hungry.borrow_mut().drain(..).for_each(|handle| handle.note(1));
    }
}

async fn log_file<D: Driver>(
    driver: &D,
    folder: &std::path::Path,
    shard: usize,
    stable: Stable,
) -> io::Result<D::File> {
    let dir = driver.root(folder)?;
    let how = Open::Create { direct: stable == Stable::Yes };
    let file = driver.open(&dir, &format!("pump-{shard}"), how).await?;
    driver.allocate(&file, FILE_BYTES).await?;
    Ok(file)
}

/// One connection of a source, until it ends between two frames.
async fn receive<D: Driver>(pump: &Rc<Shard<D>>, mut conn: D::Conn) -> Result<(), PumpError> {
    let from = Rc::new(Source { handle: conn.handle(), acks: Cell::new(0) });
    let frame_bytes = pump.options.frame_bytes;
    let is_large = frame_bytes > PACKED_BYTES;
    let (mut chunk, mut frames, mut begun) = (None::<Fill>, 0, false);
    loop {
        if is_large && chunk.is_none() {
            chunk = pump.chunk(&from);
        }
        let mut see = |octets: &[u8]| {
            if is_large {
                return chunk.as_mut().map_or(0, |chunk| chunk.put(octets));
            }
            let mut packed = 0;
            while octets.len() - packed >= frame_bytes && pump.pack(&from, &octets[packed..packed + frame_bytes]) {
                packed += frame_bytes;
                frames += 1;
            }
            begun = octets.len() > packed;
            packed
        };
        let next = conn.next(Tick::NEVER, |octets| (see(octets), ())).await;
        if let Some(how) = Ending::of(&next) {
            let lost = PumpError::Lost { place: Place::Relay, peer: conn.peer(), how, frames, owed: 1 };
            return if begun { Err(lost) } else { Ok(()) };
        }
        match next {
            Next::Note(_) => (0..from.acks.take()).for_each(|_| conn.put(b"+")),
            Next::Filled(fill, _) => chunk = Some(fill),
            _ => {}
        }
        match chunk.take() {
            Some(mut fill) if fill.room() == 0 => {
                fill.pad_to(BLOCK_BYTES);
                pump.add(&from, Content::Own(fill.take()));
                (begun, frames) = (false, frames + 1);
            }
            // What has begun to arrive goes on straight into its chunk.
            Some(fill) if fill.filled() > 0 => {
                begun = true;
                conn.aim(fill);
            }
            other => chunk = other,
        }
    }
}

async fn commit<D: Driver>(pump: Rc<Shard<D>>) -> Result<Infallible, PumpError> {
    let large_max = (WRITE_BYTES_MAX / pump.options.frame_bytes.next_multiple_of(BLOCK_BYTES)).max(1);
    let frames_max = if pump.options.frame_bytes > PACKED_BYTES { large_max } else { usize::MAX };
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
        pump.join_batch(&mut frames, frames_max);
        let (packed, parts) = seal(&pump, &frames);
        if let (Some(file), Some(folder)) = (&pump.file, &pump.options.folder) {
            let written = write(&pump, file, parts, &mut at).await;
            written.map_err(|error| PumpError::Log { folder: folder.clone(), error })?;
        }
        acknowledge(&pump, &packed, &mut frames);
    }
}

async fn write<D: Driver>(pump: &Shard<D>, file: &D::File, mut parts: Vec<Slice>, at: &mut u64) -> io::Result<()> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if *at + bytes as u64 > FILE_BYTES {
        *at = 0;
    }
    while !parts.is_empty() {
        let (written, back) = pump.driver.write(file, parts, *at, pump.options.stable).await;
        let written = written?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *at += written as u64;
        parts = rest(back, written);
    }
    Ok(())
}

/// What is left of `parts` behind the first `written` octets.
fn rest(parts: Vec<Slice>, mut written: usize) -> Vec<Slice> {
    let mut left = Vec::new();
    for part in parts {
        let done = written.min(part.len());
        written -= done;
        if done < part.len() {
            left.push(part.sub(done..part.len()));
        }
    }
    left
}

/// The packed frames, and everything to be written: whole blocks.
fn seal<D: Driver>(pump: &Shard<D>, frames: &[Frame<Handle<D>>]) -> (Option<Slice>, Vec<Slice>) {
    let mut parts = Vec::with_capacity(frames.len() + 1);
    for frame in frames {
        if let Content::Own(slice) = &frame.content {
            parts.push(slice.clone());
        }
    }
    let mut batch = pump.batch.borrow_mut();
    if batch.filled() == 0 {
        return (None, parts);
    }
    batch.pad_to(BLOCK_BYTES);
    let packed = batch.take();
    if batch.room() < BATCH_BYTES / 4 {
        *batch = pump.pool.fill(BATCH_BYTES).expect("what is held leaves memory for a batch");
    }
    drop(batch);
    pump.feed();
    parts.push(packed.clone());
    (Some(packed), parts)
}

fn acknowledge<D: Driver>(pump: &Shard<D>, packed: &Option<Slice>, frames: &mut Vec<Frame<Handle<D>>>) {
    let frame_bytes = pump.options.frame_bytes;
    let mut outgoing = pump.outgoing.borrow_mut();
    let mut cut = 0;
    for frame in frames.drain(..) {
        outgoing.push_back(match (frame.content, packed) {
            (Content::Own(slice), _) => slice.sub(0..frame_bytes),
            (Content::Packed, Some(packed)) => {
                cut += frame_bytes;
                packed.sub(cut - frame_bytes..cut)
            }
            (Content::Packed, None) => unreachable!("a packed frame stands in the batch"),
        });
        frame.from.acks.set(frame.from.acks.get() + 1);
        frame.from.handle.note(1);
    }
    let wanted = outgoing.len();
    let mut idle = pump.idle.borrow_mut();
    let kept = idle.len().saturating_sub(wanted);
    idle.drain(kept..).for_each(|handle| handle.note(1));
}

/// What a connection to the sink has under way.
struct Line<D: Driver> {
    pump: Rc<Shard<D>>,
    conn: D::Conn,
    /// Sent, and held until answered.
    owed: VecDeque<Slice>,
    /// Octets of an answer that is not all here yet.
    begun: usize,
    is_idle: bool,
    answered: u64,
}

async fn send_on<D: Driver>(pump: Rc<Shard<D>>) -> Result<Infallible, PumpError> {
    let to = pump.options.sink;
    let patience = pump.options.patience;
    let connected = pump.driver.connect(to, pump.driver.now() + patience).await;
    let mut conn = connected.map_err(|error| PumpError::Connect { place: Place::Relay, to, error })?;
    // Everything may wait unsent while answers are read; one per write asks to hear when all is sent.
    conn.set_send_room(if pump.options.form == Form::Batched { HELD_BYTES_MAX / 2 } else { 1 });
    let mut line = Line { pump, conn, owed: VecDeque::new(), begun: 0, is_idle: false, answered: 0 };
    let (mut since, mut before) = (line.pump.driver.now(), 0);
    loop {
        let is_owed = !line.owed.is_empty();
        line.take();
        if !is_owed || before != line.answered {
            (since, before) = (line.pump.driver.now(), line.answered);
        }
        let is_awaited = line.pump.options.answers && !line.owed.is_empty();
        let by = if is_awaited { since + patience } else { Tick::NEVER };
        let next = line.conn.next(by, |octets| (octets.len(), octets.len())).await;
        if let Some(how) = Ending::of(&next) {
            let (peer, owed) = (line.conn.peer(), line.owed.len() as u64);
            return Err(PumpError::Lost { place: Place::Relay, peer, how, frames: line.answered, owed });
        }
        match next {
            Next::Bytes(octets) => line.on_answers(octets),
            Next::Note(_) => line.is_idle = false,
            _ => {}
        }
    }
}

impl<D: Driver> Line<D> {
    /// Sends what may be sent now.
    fn take(&mut self) {
        let pump = self.pump.clone();
        if !pump.options.answers {
            self.forget_sent();
        }
        let mut outgoing = pump.outgoing.borrow_mut();
        let count = match pump.options.form {
            Form::Batched => outgoing.len(),
            Form::OnePerWrite { .. } => usize::from(self.owed.is_empty()).min(outgoing.len()),
        };
        for frame in outgoing.drain(..count) {
            self.conn.push(frame.clone());
            self.owed.push_back(frame);
        }
        let has_room = pump.options.form == Form::Batched || self.owed.is_empty();
        if has_room && !self.is_idle {
            self.is_idle = true;
            pump.idle.borrow_mut().push(self.conn.handle());
        }
    }

    /// Whole answers release the frames that they are for, oldest first.
    fn on_answers(&mut self, octets: usize) {
        if self.pump.options.answers {
            self.begun += octets;
            self.done((self.begun / ANSWER.len()).min(self.owed.len()));
            self.begun %= ANSWER.len();
        }
    }

    /// Where nothing is answered, what the kernel took is done.
    fn forget_sent(&mut self) {
        let frame_bytes = self.pump.options.frame_bytes;
        let unsent = self.conn.unsent().div_ceil(frame_bytes);
        self.done(self.owed.len().saturating_sub(unsent));
    }

    fn done(&mut self, frames: usize) {
        self.owed.drain(..frames);
        self.answered += frames as u64;
        self.pump.release(frames);
    }
}
