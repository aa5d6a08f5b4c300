//! Bugs that tests plant, to see that the simulation finds them. Compiled in by the feature `bugs` only; a release holds
//! neither the code nor the names (S-047).

use std::cell::Cell;

macro_rules! bugs {
    ($($bug:ident $name:literal: $what:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug { $(#[doc = $what] $bug),+ }

        impl Bug {
            /// Every one.
            pub const ALL: &'static [Bug] = &[$(Bug::$bug),+];

            /// Its name, as `ringsim --bug` takes it.
            pub fn name(self) -> &'static str { match self { $(Bug::$bug => $name),+ } }

            /// What is wrong with it.
            pub fn what(self) -> &'static str { match self { $(Bug::$bug => $what),+ } }
        }
    };
}

bugs! {
    Early250 "early-250": "A message is answered when the kernel has it, not when the disk has it.";
    WrongBatch "wrong-batch": "The end of one batch is taken for the end of the next one too.";
    TrustedSync "trusted-sync": "A write that failed is synced again, and the second answer believed.";
    ForgottenCancel "forgotten-cancel": "Of the messages of a batch that failed only the first is cancelled.";
    DoubleSettle "double-settle": "An outcome is written down for the neighbour of the recipient as well.";
    LateSettles "late-settles": "Recovery looks at what is live before it has read the outcomes that stand in other segments.";
    TornAsRot "torn-as-rot": "The end of a write that was cut off is taken for what the disk let rot.";
    RotAsTorn "rot-as-torn": "What the disk let rot is taken for the end of a write that was cut off.";
    UncheckedContent "unchecked-content": "Content that is read back is not compared with what was received.";
    LostWakeUp "lost-wake-up": "One in so many signals wakes nobody.";
    RewrittenTail "rewritten-tail": "The last block of a batch is written again together with the next one.";
    ExpiryByProgress "expiry-by-progress": "The age of a message is looked at only while its next hop takes anything.";
    ForgottenNotify "forgotten-notify": "Senders are told of failures that they asked not to hear of.";
    ForgottenName "forgotten-name": "A record that was moved is not known by the name that it had before.";
    ForgottenFolder "forgotten-folder": "A segment is used before its name in the folder is durable.";
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    static RAISED: Cell<u32> = const { Cell::new(0) };
}

/// Plants `bug` on this thread, until the planting is dropped.
pub fn plant(bug: Option<Bug>) -> Planting {
    RAISED.set(0);
    Planting(PLANTED.replace(bug))
}

/// A bug planted; what was planted before comes back when it is dropped.
#[derive(Debug)]
pub struct Planting(Option<Bug>);

impl Drop for Planting {
    fn drop(&mut self) {
        PLANTED.set(self.0);
    }
}

/// Whether this bug is planted here.
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this is one of the signals that wake nobody.
pub fn is_lost() -> bool {
    RAISED.set(RAISED.get().wrapping_add(1));
    RAISED.get().is_multiple_of(97)
}
