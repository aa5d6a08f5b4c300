//! The pump's two ends: a source that sends the next frame when the one before is acknowledged, and a sink that swallows
//! frames and answers each, all those of one read in one write, as an SMTP sink would.

use super::{ANSWER, Ending, PATIENCE, Place, PumpError};
use crate::io::driver::{Conn, Driver, Next};
use crate::io::launch::Program;
use crate::sys::slice::{Budget, Pool, Slice};
use crate::wire::{Span, Tick};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

/// Discards what it receives, counts it, and answers each frame.
#[derive(Debug, Clone)]
pub struct PumpSink {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Octets per frame.
    pub frame_bytes: usize,
    /// Whether it answers.
    pub answers: bool,
    /// Octets received so far, by all shards.
    pub received_bytes: Arc<AtomicU64>,
    /// Told why it cannot go on.
    pub trouble: Sender<PumpError>,
}

impl Program for PumpSink {
    async fn run<D: Driver>(self, driver: D, _shard: usize) {
        let at = self.listen;
        let failed = |error| PumpError::Listen { place: Place::Sink, at, error };
        let trouble = self.trouble.clone();
        let accepting = async {
            let listener = driver.listen(at).map_err(failed)?;
            loop {
                let conn = driver.accept(&listener).await.map_err(failed)?;
                let sink = self.clone();
                driver.spawn(async move {
                    if let Err(error) = swallow::<D>(&sink, conn).await {
                        // Nobody listens any more: whoever started this is ending it.
                        let _ = sink.trouble.send(error);
                    }
                });
            }
        };
        let Err::<std::convert::Infallible, _>(error) = accepting.await;
        let _ = trouble.send(error);
    }
}

/// One connection, until it ends between two frames.
async fn swallow<D: Driver>(sink: &PumpSink, mut conn: D::Conn) -> Result<(), PumpError> {
    let (mut begun, mut frames) = (0, 0);
    loop {
        let next = conn.next(Tick::NEVER, |octets| (octets.len(), octets.len())).await;
        if let Next::Bytes(octets) = next {
            sink.received_bytes.fetch_add(octets as u64, Ordering::Relaxed);
            begun += octets;
            let whole = begun / sink.frame_bytes;
            begun %= sink.frame_bytes;
            frames += whole as u64;
            if sink.answers {
                (0..whole).for_each(|_| conn.put(ANSWER));
            }
        } else if let Some(how) = Ending::of(&next) {
            let lost = PumpError::Lost { place: Place::Sink, peer: conn.peer(), how, frames, owed: 1 };
            return if begun == 0 { Ok(()) } else { Err(lost) };
        }
    }
}

/// Sends frames in a closed loop: the next when the one before is acknowledged.
#[derive(Debug, Clone)]
pub struct PumpSource {
    /// The pump.
    pub target: SocketAddr,
    /// Connections of each shard.
    pub connections: usize,
    /// Octets per frame.
    pub frame_bytes: usize,
    /// Sent and acknowledged so far.
    pub answered: Arc<AtomicU64>,
    /// Ends the run when true.
    pub stop: Arc<AtomicBool>,
    /// Each acknowledgement's time in microseconds goes here.
    pub latency_us: Arc<Mutex<Vec<u32>>>,
    /// Told why it cannot go on.
    pub trouble: Sender<PumpError>,
}

impl Program for PumpSource {
    async fn run<D: Driver>(self, driver: D, _shard: usize) {
        let pool = Pool::new(Budget::new(64 << 20));
        let frame = a_frame(&pool, self.frame_bytes);
        let alive = Rc::new(Cell::new(self.connections));
        let times = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..self.connections {
            let (source, done) = (self.clone(), alive.clone());
            let send = send_frames(driver.clone(), self.clone(), frame.clone(), times.clone());
            driver.spawn(async move {
                if let Err(error) = send.await {
                    // The others end soon; nobody listens when the run is being ended anyway.
                    source.stop.store(true, Ordering::Relaxed);
                    let _ = source.trouble.send(error);
                }
                done.set(done.get() - 1);
            });
        }
        while alive.get() > 0 {
            driver.sleep(Span::millis(20)).await;
        }
        let mut all = self.latency_us.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.append(&mut times.borrow_mut());
    }
}

fn a_frame(pool: &Pool, bytes: usize) -> Slice {
    let mut fill = pool.fill(bytes).expect("memory for a frame");
    fill.limit(bytes);
    fill.spare().fill(b'x');
    fill.advance(bytes);
    fill.take()
}

async fn send_frames<D: Driver>(
    driver: D,
    source: PumpSource,
    frame: Slice,
    times: Rc<RefCell<Vec<u32>>>,
) -> Result<(), PumpError> {
    let to = source.target;
    let connected = driver.connect(to, driver.now() + PATIENCE).await;
    let mut conn = connected.map_err(|error| PumpError::Connect { place: Place::Source, to, error })?;
    let mut frames = 0;
    while !source.stop.load(Ordering::Relaxed) {
        let begun = driver.now();
        conn.push(frame.clone());
        loop {
            let next = conn.next(begun + PATIENCE, |octets| (octets.len(), octets.len())).await;
            if matches!(next, Next::Bytes(_)) {
                break;
            }
            if let Some(how) = Ending::of(&next) {
                return Err(PumpError::Lost { place: Place::Source, peer: to, how, frames, owed: 1 });
            }
        }
        frames += 1;
        source.answered.fetch_add(1, Ordering::Relaxed);
        let micros = driver.now().since(begun).as_micros();
        times.borrow_mut().push(u32::try_from(micros).unwrap_or(u32::MAX));
    }
    Ok(())
}
