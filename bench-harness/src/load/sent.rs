//! What a sender process leaves behind: one line of JSON, then the refusals and every message's record in binary form,
//! little endian, exactly as long as the line says. It lives only from one process of a run to the next.

use super::{SendSpec, SpecError};
use engine::io::driver::IoCounts;
use engine::wire::{Span, Tick};
use loadgen::correlate::RecipientRefusal;
use loadgen::record::{MessageRecord, State};
use loadgen::send::{Ended, Outcome, ShardOutcome};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SentError {
    /// The file.
    #[error("what was sent: {0}")]
    Io(#[from] io::Error),
    /// Its first line.
    #[error("what was sent: {0}")]
    Header(#[from] serde_json::Error),
    /// A state that nobody writes.
    #[error("what was sent: {0} is no state of a message")]
    State(u8),
    /// It does not belong to the specification.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    run: u32,
    started_ns: u64,
    driver: String,
    /// Records of each shard.
    records: Vec<usize>,
    refusals: usize,
    first_refusal: Option<String>,
    /// CPU time and over how long, nanoseconds, and system calls, of each shard.
    shards: Vec<(u64, u64, u64)>,
    process_cpu_ns: u64,
    connections: u64,
    broken: u64,
    refused: u64,
    ended: String,
    clock_step_us: u64,
}

const RECORD_BYTES: usize = 48;
const REFUSAL_BYTES: usize = 12;

/// Writes everything down.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, outcome: &Outcome) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let header = Header {
        run: outcome.run,
        started_ns: outcome.started.0,
        driver: outcome.driver.to_owned(),
        records: outcome.records.iter().map(Vec::len).collect(),
        refusals: outcome.refusals.len(),
        first_refusal: outcome.first_refusal.clone(),
        shards: outcome.shards.iter().map(|shard| (shard.cpu.0, shard.over.0, shard.io.syscalls)).collect(),
        process_cpu_ns: outcome.process_cpu.0,
        connections: outcome.connections,
        broken: outcome.broken,
        refused: outcome.refused,
        ended: match outcome.ended {
            Ended::Finished => "finished",
            Ended::Stopped => "stopped",
            Ended::DrainTimedOut => "drain timed out",
        }
        .to_owned(),
        clock_step_us: outcome.clock_step_us,
    };
    serde_json::to_writer(&mut file, &header)?;
    file.write_all(b"\n")?;
    for refusal in &outcome.refusals {
        file.write_all(&refusal.seq.to_le_bytes())?;
        file.write_all(&refusal.place.to_le_bytes())?;
        file.write_all(&refusal.code.to_le_bytes())?;
    }
    for record in outcome.all_records() {
        file.write_all(&encode(record))?;
    }
    file.flush()
}

/// Reads it back as the outcome it was.
///
/// # Errors
/// [`SentError`].
pub fn read(path: &Path, spec: &SendSpec) -> Result<Outcome, SentError> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    file.read_until(b'\n', &mut line)?;
    let header: Header = serde_json::from_slice(&line)?;
    let refusals = (0..header.refusals).map(|_| read_refusal(&mut file)).collect::<io::Result<Vec<_>>>()?;
    let mut records = Vec::with_capacity(header.records.len());
    for count in &header.records {
        let shard = (0..*count).map(|_| read_record(&mut file)).collect::<Result<Vec<_>, SentError>>()?;
        records.push(shard);
    }
    let shard = |(cpu, over, syscalls): &(u64, u64, u64)| ShardOutcome {
        cpu: Span(*cpu),
        over: Span(*over),
        io: IoCounts { syscalls: *syscalls, ..IoCounts::default() },
    };
    let names = ["uring", "tokio-uring", "epoll"];
    Ok(Outcome {
        run: header.run,
        started: Tick(header.started_ns),
        driver: names.into_iter().find(|name| *name == header.driver).unwrap_or("unknown"),
        pacing: spec.pacing()?,
        warm_up: spec.warm_up(),
        records,
        refusals,
        first_refusal: header.first_refusal,
        recipients: spec.recipients()?,
        shards: header.shards.iter().map(shard).collect(),
        process_cpu: Span(header.process_cpu_ns),
        connect: Default::default(),
        connections: header.connections,
        broken: header.broken,
        refused: header.refused,
        ended: match header.ended.as_str() {
            "finished" => Ended::Finished,
            "stopped" => Ended::Stopped,
            _ => Ended::DrainTimedOut,
        },
        clock_step_us: header.clock_step_us,
    })
}

fn encode(record: &MessageRecord) -> [u8; RECORD_BYTES] {
    let mut out = [0; RECORD_BYTES];
    out[..8].copy_from_slice(&record.intended_ns.to_le_bytes());
    let words = [
        record.taken_us,
        record.started_us,
        record.mail_us,
        record.rcpt_us,
        record.data_us,
        record.body_us,
        record.done_us,
        record.content,
    ];
    for (place, word) in out[8..40].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    for (place, half) in out[40..46].chunks_exact_mut(2).zip([record.code, record.rejected, record.deferred]) {
        place.copy_from_slice(&half.to_le_bytes());
    }
    out[46] = record.state as u8;
    out
}

fn read_record(file: &mut impl Read) -> Result<MessageRecord, SentError> {
    let word = |file: &mut dyn Read| -> io::Result<u32> {
        let mut octets = [0; 4];
        file.read_exact(&mut octets)?;
        Ok(u32::from_le_bytes(octets))
    };
    let half = |file: &mut dyn Read| -> io::Result<u16> {
        let mut octets = [0; 2];
        file.read_exact(&mut octets)?;
        Ok(u16::from_le_bytes(octets))
    };
    let mut intended = [0; 8];
    file.read_exact(&mut intended)?;
    let record = MessageRecord {
        intended_ns: u64::from_le_bytes(intended),
        taken_us: word(file)?,
        started_us: word(file)?,
        mail_us: word(file)?,
        rcpt_us: word(file)?,
        data_us: word(file)?,
        body_us: word(file)?,
        done_us: word(file)?,
        content: word(file)?,
        code: half(file)?,
        rejected: half(file)?,
        deferred: half(file)?,
        state: State::Waiting,
    };
    let [state, _] = half(file)?.to_le_bytes();
    Ok(MessageRecord { state: state_of(state)?, ..record })
}

const STATES: [State; 7] = [
    State::Waiting,
    State::Started,
    State::Accepted,
    State::Rejected,
    State::Deferred,
    State::NotAttempted,
    State::Unknown,
];

fn state_of(code: u8) -> Result<State, SentError> {
    STATES.into_iter().find(|state| *state as u8 == code).ok_or(SentError::State(code))
}

fn read_refusal(file: &mut impl Read) -> io::Result<RecipientRefusal> {
    let mut octets = [0; REFUSAL_BYTES];
    file.read_exact(&mut octets)?;
    let (seq, rest) = octets.split_at(8);
    let half = |at: usize| u16::from_le_bytes([rest[at], rest[at + 1]]);
    Ok(RecipientRefusal { seq: u64::from_le_bytes(seq.try_into().unwrap_or_default()), place: half(0), code: half(2) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::spec;

    #[test]
    fn what_was_sent_reads_back() {
        let spec = spec();
        let record = |n: u32| MessageRecord {
            intended_ns: u64::from(n) << 33,
            taken_us: n,
            started_us: n + 1,
            mail_us: n + 2,
            rcpt_us: n + 3,
            data_us: n + 4,
            body_us: n + 5,
            done_us: n + 6,
            content: n + 7,
            code: 250,
            rejected: 1,
            deferred: 2,
            state: STATES[n as usize % STATES.len()],
        };
        let outcome = Outcome {
            run: spec.run,
            started: Tick(1 << 50),
            driver: "epoll",
            pacing: spec.pacing().expect("a rate"),
            warm_up: spec.warm_up(),
            records: vec![(0..20).map(record).collect(), (20..29).map(record).collect()],
            refusals: vec![RecipientRefusal { seq: 1 << 40, place: 3, code: 550 }],
            first_refusal: Some("550 no".into()),
            recipients: spec.recipients().expect("templates"),
            shards: vec![ShardOutcome {
                cpu: Span(5),
                over: Span(7),
                io: IoCounts { syscalls: 9, ..IoCounts::default() },
            }],
            process_cpu: Span(11),
            connect: Default::default(),
            connections: 4,
            broken: 1,
            refused: 2,
            ended: Ended::Stopped,
            clock_step_us: 13,
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("sent");
        write(&path, &outcome).expect("written");
        let back = read(&path, &spec).expect("read");
        assert_eq!(back.records, outcome.records);
        assert_eq!((back.refusals, back.shards), (outcome.refusals, outcome.shards));
        assert_eq!(back.first_refusal, outcome.first_refusal);
        assert_eq!((back.run, back.started, back.driver, back.ended), (7, Tick(1 << 50), "epoll", Ended::Stopped));
        assert_eq!((back.connections, back.broken, back.refused, back.clock_step_us), (4, 1, 2, 13));
        let whole = std::fs::read(&path).expect("kept");
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("cut");
        assert!(matches!(read(&path, &spec), Err(SentError::Io(_))), "a torn file is no outcome");
    }
}
