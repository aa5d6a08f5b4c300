//! The steps by which a message comes into a Maildir, and a Maildir into the store.
//!
//! ```text
//!  Create tmp/NAME ─► Write ─► SyncFile ─► Rename tmp/NAME new/NAME ─► SyncNew ─► placed
//!      │ exists: another name      │              │                       │
//!      └─────────── failed ◄───────┴── Remove ◄───┘   Remove, SyncNew ◄───┘
//! ```
//! The shell performs the step it is told and tells how it went; nothing is answered before `placed` or `failed`. A failure
//! takes back what was made, so that a sender who tries again makes no second copy; what a crash leaves in `tmp` is not mail.
//! What came into `new` and is not durably gone from there may be delivered: that is no refusal either.

/// Names tried before a clash is called a failure: clashes mean that two instances share a name.
const NAMES_MAX: u8 = 3;

/// What went wrong with a step, as the shell saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The name is taken.
    Exists,
    /// It is not there.
    Missing,
    /// The device or the owner's quota is full.
    NoSpace,
    /// Anything else: an input or output error, a refusal.
    Other,
}

/// Why a message was not placed. Our failure: a 4yz (I-9), the sender keeps the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// `452 4.3.1`.
    #[error("the store is full")]
    Full,
    /// `451 4.3.0`.
    #[error("the store does not work")]
    Broken,
    /// A copy may stay: no reply, where nothing else is to be said.
    #[error("the store does not work, and may have kept a copy")]
    Unknown,
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NoSpace => StoreError::Full,
            Trouble::Exists | Trouble::Missing | Trouble::Other => StoreError::Broken,
        }
    }
}

/// What the shell is to do next for a message. Folders are those of its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Create a file in `tmp` under a name that is new for each such step; it must not exist.
    Create,
    /// Write the message, whole, to that file.
    Write,
    /// Sync the file.
    SyncFile,
    /// Rename it into `new`, under the same name.
    Rename,
    /// Sync `new`. Messages that wait for the same folder may share one sync that begins after their renames.
    SyncNew,
    /// Remove the file from `tmp`; how that goes does not matter.
    RemoveTmp,
    /// Remove the file from `new`.
    RemoveNew,
    /// Sync `new` once more.
    SyncRemoved,
    /// It is in the mailbox: durable, 250.
    Placed,
    /// It is not.
    Failed(StoreError),
}

/// One message on its way into one mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placing {
    step: Step,
    names: u8,
    why: StoreError,
}

impl Default for Placing {
    fn default() -> Self {
        Self::new()
    }
}

impl Placing {
    /// Nothing is done yet.
    pub fn new() -> Self {
        Self { step: Step::Create, names: 0, why: StoreError::Broken }
    }

    /// What is to be done now. `Placed` and `Failed` are the end.
    pub fn step(&self) -> Step {
        self.step
    }

    /// How the step went; what is to be done next.
    pub fn done(&mut self, result: Result<(), Trouble>) -> Step {
        self.step = match (self.step, result) {
            (Step::Create, Ok(())) => Step::Write,
            (Step::Create, Err(Trouble::Exists)) if self.names < NAMES_MAX => {
                self.names = self.names.saturating_add(1);
                Step::Create
            }
            (Step::Create, Err(trouble)) => Step::Failed(trouble.into()),
            (Step::Write, Ok(())) => Step::SyncFile,
            (Step::SyncFile, Ok(())) => Step::Rename,
            (Step::Rename, Ok(())) => Step::SyncNew,
            (Step::SyncNew, Ok(())) => Step::Placed,
            (Step::Write | Step::SyncFile | Step::Rename, Err(trouble)) => self.take_back(trouble, Step::RemoveTmp),
            (Step::SyncNew, Err(trouble)) => self.take_back(trouble, Step::RemoveNew),
            (Step::RemoveNew, Ok(())) => Step::SyncRemoved,
            (Step::RemoveTmp, _) | (Step::SyncRemoved, Ok(())) => Step::Failed(self.why),
            (Step::RemoveNew | Step::SyncRemoved, Err(_)) => Step::Failed(StoreError::Unknown),
            (end @ (Step::Placed | Step::Failed(_)), _) => end,
        };
        self.step
    }

    fn take_back(&mut self, trouble: Trouble, step: Step) -> Step {
        self.why = trouble.into();
        step
    }
}

/// The steps that make a mailbox that is not there yet. Each that finds what it makes is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparing {
    /// Make the mailbox's folder below the store's root.
    MakeFolder,
    /// Make this folder below the mailbox's.
    MakePart(&'static str),
    /// Sync the mailbox's folder.
    SyncFolder,
    /// Sync the store's root.
    SyncRoot,
    /// Messages can be placed.
    Ready,
    /// They cannot.
    Failed(StoreError),
}

impl Preparing {
    /// The folders of a Maildir.
    pub const PARTS: [&'static str; 3] = ["tmp", "new", "cur"];

    /// The first step.
    pub const FIRST: Preparing = Preparing::MakeFolder;

    /// How this step went; the next one.
    pub fn done(self, result: Result<(), Trouble>) -> Preparing {
        let [tmp, new, cur] = Self::PARTS;
        match (self, result) {
            (Preparing::MakeFolder, Ok(()) | Err(Trouble::Exists)) => Preparing::MakePart(tmp),
            (Preparing::MakePart(part), Ok(()) | Err(Trouble::Exists)) => match part {
                part if part == tmp => Preparing::MakePart(new),
                part if part == new => Preparing::MakePart(cur),
                _ => Preparing::SyncFolder,
            },
            (Preparing::SyncFolder, Ok(())) => Preparing::SyncRoot,
            (Preparing::SyncRoot, Ok(())) => Preparing::Ready,
            (end @ (Preparing::Ready | Preparing::Failed(_)), _) => end,
            (_, Err(trouble)) => Preparing::Failed(trouble.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn s_031_a_message_is_written_synced_renamed_and_synced_in_this_order() {
        let mut placing = Placing::new();
        let mut steps = vec![placing.step()];
        while placing.step() != Step::Placed {
            steps.push(placing.done(Ok(())));
        }
        let order = [Step::Create, Step::Write, Step::SyncFile, Step::Rename, Step::SyncNew, Step::Placed];
        assert_eq!(steps, order);
        assert_eq!(placing.done(Err(Trouble::Other)), Step::Placed, "the end stays the end");
    }

    #[test]
    fn a_failure_at_any_step_takes_back_what_was_made_and_never_says_placed() {
        for (fails_at, trouble, rest) in [
            (0, Trouble::Other, vec![Step::Failed(StoreError::Broken)]),
            (0, Trouble::NoSpace, vec![Step::Failed(StoreError::Full)]),
            (0, Trouble::Missing, vec![Step::Failed(StoreError::Broken)]),
            (1, Trouble::NoSpace, vec![Step::RemoveTmp, Step::Failed(StoreError::Full)]),
            (2, Trouble::Other, vec![Step::RemoveTmp, Step::Failed(StoreError::Broken)]),
            (3, Trouble::Exists, vec![Step::RemoveTmp, Step::Failed(StoreError::Broken)]),
        ] {
            for removal in [Ok(()), Err(Trouble::Missing)] {
                let mut placing = Placing::new();
                for _ in 0..fails_at {
                    placing.done(Ok(()));
                }
                let mut seen = vec![placing.done(Err(trouble))];
                while !matches!(placing.step(), Step::Failed(_) | Step::Placed) {
                    seen.push(placing.done(removal));
                }
                assert_eq!(seen, rest, "failed at step {fails_at}");
            }
        }
    }

    /// M-049, I-3: what came into `new` is refused only when it is gone from there for good.
    #[test]
    fn m_049_a_copy_that_may_stay_is_no_refusal() {
        let unknown = Step::Failed(StoreError::Unknown);
        for (results, rest) in [
            (vec![Err(Trouble::Missing)], vec![Step::RemoveNew, unknown]),
            (vec![Ok(()), Err(Trouble::Other)], vec![Step::RemoveNew, Step::SyncRemoved, unknown]),
            (vec![Ok(()), Ok(())], vec![Step::RemoveNew, Step::SyncRemoved, Step::Failed(StoreError::Full)]),
        ] {
            let mut placing = Placing::new();
            while placing.step() != Step::SyncNew {
                placing.done(Ok(()));
            }
            let mut seen = vec![placing.done(Err(Trouble::NoSpace))];
            seen.extend(results.into_iter().map(|result| placing.done(result)));
            assert_eq!(seen, rest);
        }
    }

    #[test]
    fn a_clash_of_names_is_tried_again_and_not_for_ever() {
        let mut placing = Placing::new();
        let clashes = (0..10).take_while(|_| placing.done(Err(Trouble::Exists)) == Step::Create).count();
        assert_eq!(clashes, usize::from(NAMES_MAX));
        assert_eq!(placing.step(), Step::Failed(StoreError::Broken));
    }

    #[test]
    fn a_mailbox_is_made_whole_before_it_is_used_whatever_of_it_exists() {
        for exists in 0..16u32 {
            let (mut step, mut made, mut at) = (Preparing::FIRST, BTreeSet::new(), 0);
            while step != Preparing::Ready {
                let known = exists & (1 << at) != 0;
                let result = match step {
                    Preparing::MakeFolder => {
                        if known {
                            Err(Trouble::Exists)
                        } else {
                            Ok(())
                        }
                    }
                    Preparing::MakePart(part) => {
                        made.insert(part);
                        if known { Err(Trouble::Exists) } else { Ok(()) }
                    }
                    _ => Ok(()),
                };
                step = step.done(result);
                at += 1;
            }
            assert_eq!((made.len(), at), (3, 6));
        }
        assert_eq!(Preparing::FIRST.done(Err(Trouble::NoSpace)), Preparing::Failed(StoreError::Full));
        assert_eq!(Preparing::SyncFolder.done(Err(Trouble::Exists)), Preparing::Failed(StoreError::Broken));
    }
}
