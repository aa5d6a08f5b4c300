//! A transaction under way, and what each reply means for it. Replies are matched by count alone (M-113).

use super::facts::{BodyForm, Class, ClientEvent, Outbox, Stage};
use crate::smtp::reader::ProtocolError;
use crate::wire::{EnhancedStatus, Reply, ReplyClass};
use smallvec::SmallVec;

/// Which reply comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reset,
    Mail,
    Rcpt,
    /// 354.
    Go,
    /// The end of the body, or of a chunk.
    End,
}

/// What a flight does with the reply that was for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing to tell yet.
    Quiet,
    /// This, and the flight goes on.
    Tell(ClientEvent),
    /// This, and its last reply was read.
    Last(Option<ClientEvent>),
    /// The stream is out of step.
    Wrong(ProtocolError),
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) token: u32,
    pub(super) step: Step,
    pub(super) form: BodyForm,
    pub(super) lmtp: bool,
    /// Commands go one by one: those that depend on success are not out yet.
    pub(super) lockstep: bool,
    /// Behind a transaction that was refused: a 503 says nothing about this one (M-118).
    pub(super) behind_refusal: bool,
    /// It goes to all of its recipients or to none, and its content waits until each was answered for.
    pub(super) all_or_none: bool,
    /// The commands behind RCPT wait for that, though others did not.
    pub(super) held: bool,
    /// What the peer made of recipients that it refused, where it is all or none: `Deferred` if that of any.
    pub(super) refused: Option<Class>,
    /// RCPT commands of it.
    pub(super) recipients: u32,
    /// Replies to them so far.
    pub(super) answered: u32,
    /// Recipients that the peer took.
    pub(super) accepted: u32,
    /// In LMTP: which, by place; and how many of their final replies were read.
    taken: SmallVec<[u64; 1]>,
    finals: u32,
    /// Its outcome was told; what follows is only counted.
    pub(super) settled: bool,
    /// Its body was handed to the outbox, or a part of it.
    pub(super) body_out: bool,
    /// Chunks announced and not answered.
    pub(super) chunks_owed: u32,
    /// The last chunk was announced.
    pub(super) last_out: bool,
    /// It left the peer inside a transaction: RSET before anything else.
    pub(super) unclean: bool,
}

impl Flight {
    pub(super) fn new(token: u32, form: BodyForm, lmtp: bool) -> Self {
        Self {
            token,
            step: Step::Mail,
            form,
            lmtp,
            lockstep: false,
            behind_refusal: false,
            all_or_none: false,
            held: false,
            refused: None,
            recipients: 0,
            answered: 0,
            accepted: 0,
            taken: SmallVec::new(),
            finals: 0,
            settled: false,
            body_out: false,
            chunks_owed: 0,
            last_out: false,
            unclean: false,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.step {
            Step::Reset => Stage::Reset,
            Step::Mail => Stage::Mail,
            Step::Rcpt => Stage::Rcpt,
            Step::Go => Stage::Data,
            Step::End => Stage::End,
        }
    }

    /// Takes the reply that is next in order.
    pub(super) fn on_reply(&mut self, reply: &Reply, out: &mut impl Outbox) -> Outcome {
        match self.step {
            Step::Reset => self.on_reset(reply),
            Step::Mail => self.on_mail(reply),
            Step::Rcpt => self.on_rcpt(reply),
            Step::Go => self.on_go(reply, out),
            Step::End => self.on_end(reply),
        }
    }

    fn on_reset(&mut self, reply: &Reply) -> Outcome {
        if reply.class() != ReplyClass::Positive {
            return Outcome::Wrong(ProtocolError::WrongClass);
        }
        self.step = Step::Mail;
        Outcome::Quiet
    }

    fn on_mail(&mut self, reply: &Reply) -> Outcome {
        self.step = Step::Rcpt;
        match Class::of(reply) {
            None => Outcome::Wrong(ProtocolError::WrongClass),
            Some(Class::Accepted) => Outcome::Quiet,
            // Its taker gave up meanwhile: its token may be somebody else's by now.
            Some(_) if self.settled => {
                if self.lockstep {
                    Outcome::Last(None)
                } else {
                    Outcome::Quiet
                }
            }
            Some(class) => {
                // No message is a bad sequence of commands: the host refuses all there is (M-118).
                self.behind_refusal |= reply.code() == 503;
                let event = self.settle(class, reply);
                if self.lockstep { Outcome::Last(Some(event)) } else { Outcome::Tell(event) }
            }
        }
    }

    /// The outcome of the whole transaction.
    fn settle(&mut self, class: Class, reply: &Reply) -> ClientEvent {
        self.settled = true;
        let token = self.token;
        let own_failure = self.answered > 0 && self.accepted == 0;
        if self.behind_refusal && reply.code() == 503 && !own_failure {
            ClientEvent::NotAttempted { token }
        } else {
            ClientEvent::Done { token, class }
        }
    }

    fn on_rcpt(&mut self, reply: &Reply) -> Outcome {
        let index = self.answered;
        self.answered = index.saturating_add(1);
        if self.answered >= self.recipients {
            self.step = if self.form == BodyForm::Bdat { Step::End } else { Step::Go };
        }
        let Some(class) = Class::of(reply) else { return Outcome::Wrong(ProtocolError::WrongClass) };
        if self.settled {
            return Outcome::Quiet;
        }
        if class == Class::Accepted {
            self.accept(index);
            return Outcome::Quiet;
        }
        let class = recipient_class(class, reply, self.accepted > 0);
        if self.all_or_none {
            let permanent = class == Class::Refused && self.refused != Some(Class::Deferred);
            self.refused = Some(if permanent { Class::Refused } else { Class::Deferred });
        }
        Outcome::Tell(ClientEvent::Recipient { token: self.token, index, class })
    }

    fn accept(&mut self, index: u32) {
        self.accepted = self.accepted.saturating_add(1);
        if self.lmtp {
            let word = (index / 64) as usize;
            self.taken.resize(self.taken.len().max(word.saturating_add(1)), 0);
            if let Some(bits) = self.taken.get_mut(word) {
                *bits |= 1 << (index % 64);
            }
        }
    }

    /// Whether the replies so far leave nobody to send a body for.
    pub(super) fn is_hopeless(&self) -> bool {
        self.settled || (self.answered >= self.recipients && self.accepted == 0)
    }

    fn on_go(&mut self, reply: &Reply, out: &mut impl Outbox) -> Outcome {
        match reply.class() {
            ReplyClass::Intermediate => {
                self.step = Step::End;
                if self.is_hopeless() {
                    if self.lmtp {
                        // What would end the data gets no reply there: the stream cannot be kept in step.
                        return Outcome::Wrong(ProtocolError::WrongClass);
                    }
                    // An empty message to nobody (M-114).
                    out.text(b".\r\n");
                } else {
                    self.body_out = true;
                    out.body(self.token, BodyForm::Data);
                }
                Outcome::Quiet
            }
            ReplyClass::Positive => Outcome::Wrong(ProtocolError::WrongClass),
            ReplyClass::Transient | ReplyClass::Permanent => {
                self.unclean = true;
                let class = Class::of(reply).unwrap_or(Class::Deferred);
                Outcome::Last((!self.settled).then(|| self.settle(class, reply)))
            }
        }
    }

    fn on_end(&mut self, reply: &Reply) -> Outcome {
        let Some(class) = Class::of(reply) else { return Outcome::Wrong(ProtocolError::WrongClass) };
        if self.form == BodyForm::Bdat {
            return self.on_chunk(class, reply);
        }
        if self.lmtp && self.accepted > 0 {
            return self.on_lmtp_final(class);
        }
        if self.settled {
            return Outcome::Last(None);
        }
        let nobody = self.accepted == 0;
        let class = if nobody { Class::Refused } else { class };
        Outcome::Last(Some(self.settle(class, reply)))
    }

    fn on_chunk(&mut self, class: Class, reply: &Reply) -> Outcome {
        self.chunks_owed = self.chunks_owed.saturating_sub(1);
        let last = self.last_out && self.chunks_owed == 0;
        let hopeless = self.accepted == 0;
        let event = match class {
            _ if self.settled => None,
            _ if hopeless => Some(self.settle(Class::Refused, reply)),
            Class::Accepted if !last => None,
            class => Some(self.settle(class, reply)),
        };
        self.unclean |= class != Class::Accepted;
        let over = last || (self.settled && self.chunks_owed == 0);
        match (over, event) {
            (true, event) => Outcome::Last(event),
            (false, Some(event)) => Outcome::Tell(event),
            (false, None) => Outcome::Quiet,
        }
    }

    /// One reply per recipient that was taken, in their order; each holds from when it is read (M-213).
    fn on_lmtp_final(&mut self, class: Class) -> Outcome {
        let nth = self.finals;
        self.finals = nth.saturating_add(1);
        let Some(index) = self.nth_taken(nth) else { return Outcome::Wrong(ProtocolError::Unasked) };
        Outcome::Tell(ClientEvent::Recipient { token: self.token, index, class })
    }

    fn nth_taken(&self, nth: u32) -> Option<u32> {
        (0..self.recipients).filter(|&index| self.is_taken(index)).nth(nth as usize)
    }

    fn is_taken(&self, index: u32) -> bool {
        self.taken.get((index / 64) as usize).is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }

    /// All that was sent of it is answered, and its body is to go on: the peer owes nothing.
    pub(super) fn waits_for_us(&self) -> bool {
        self.form == BodyForm::Bdat && self.step == Step::End && self.chunks_owed == 0 && !self.last_out
    }

    /// A streamed body for nobody: no further reply comes, and no chunk is to be sent.
    pub(super) fn is_pointless(&self) -> bool {
        self.waits_for_us() && self.is_hopeless()
    }

    /// Each recipient was answered for.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.step, Step::Go | Step::End)
    }

    /// Nothing of its content has left, and it is to nobody: it ends here, without a further reply.
    pub(super) fn is_over(&self) -> bool {
        let for_nobody = (self.lockstep || self.held) && self.is_hopeless();
        let taken_back = self.refused.is_some() && !self.body_out;
        self.is_pointless() || (self.is_answered() && (for_nobody || taken_back))
    }

    /// In LMTP the last recipient's reply was read.
    pub(super) fn is_complete(&self) -> bool {
        self.lmtp && self.step == Step::End && self.accepted > 0 && self.finals >= self.accepted
    }
}

/// RFC 5321 §4.5.3.1.10: 452, or 552 in its old meaning, asks for another transaction once somebody was accepted (M-034).
fn recipient_class(class: Class, reply: &Reply, somebody: bool) -> Class {
    const TOO_MANY: EnhancedStatus = EnhancedStatus::new(5, 5, 3);
    match (reply.code(), reply.enhanced()) {
        (452, _) if somebody => Class::Again,
        (552, Some(TOO_MANY)) => {
            if somebody {
                Class::Again
            } else {
                Class::Deferred
            }
        }
        (552, None) if somebody => Class::Again,
        _ => class,
    }
}
