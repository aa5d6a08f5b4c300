//! Messages that a host of their next hop cannot take, as its extensions say (SIZE, 8BITMIME, BINARYMIME): they are offered
//! to the others before anybody fails (M-091).
//!
//! Such a message leaves its lane and keeps in its note which hosts cannot take it. Connections of others take it first when
//! they take anything; the first in the list are looked after: a connection is woken or opened for them, at the cap in place
//! of an idle one, and before long in place of a busy one. A slow host is better than none. When no other host can be
//! reached now, the message waits for its own retry and is offered to all again. Every host is asked once in a round, so it
//! is bounded by their number; it fails when all of them were asked.
//!
//! A message that another shard keeps is a *guest* meanwhile: an entry here that is taken like our own, so that whoever has
//! no connections himself learns the same of the hosts. Its owner has it back when it was sent, when no host is left to ask,
//! and when none can be reached now.

use super::Queues;
use super::entry::{EntryId, NONE, OF_A_GUEST, State, flag};
use super::health::{Host, Standing};
use super::link::ConnId;
use super::outcome::{Fate, Outcome};
use super::places::PLACE_WAIT;
use super::recipients;
use super::scheduler::{Action, Taken};
use crate::wire::{Span, Tick};

/// Messages that a connection looks through for one that its host may take, and that are looked after at a time.
const LOOKED_AT_MAX: u32 = 32;
/// How long a guest waits for a host that is busy: all that time it takes the place of another that its owner could lend.
const GUEST_WAIT: Span = Span::seconds(5);

/// What is to be done for a message that some hosts cannot take.
enum Way {
    Wake(u32),
    Open(u32),
    /// Somebody is on the way.
    Wait,
    /// Nobody can be asked now.
    Later,
}

impl Queues {
    /// Whether another host of this connection's next hop may take what its host cannot: one that was not asked in this
    /// round. Of a message that another shard keeps, and that is no guest here (`None`), nobody was.
    pub fn has_other_host(&self, conn: ConnId, message: Option<EntryId>) -> bool {
        let Some(index) = self.link(conn) else { return false };
        let link = &self.links[index as usize];
        let asked =
            message.and_then(|id| self.entries.find(id)).and_then(|entry| self.unfit(entry)).unwrap_or_default();
        let mut others = (0_u32..).zip(&self.hops[link.hop as usize].hosts);
        others.any(|(place, host)| place != link.host && !host.retired && !recipients::contains(asked, place as usize))
    }

    /// The hosts that cannot take a message, as far as it was found out.
    pub(super) fn unfit(&self, index: u32) -> Option<&[u64]> {
        let entry = &self.entries[index];
        if matches!(entry.state, State::Deferred | State::Free) {
            return None;
        }
        self.notes.get(entry.place as usize).map(|note| self.wide.words(note.unfit))
    }

    /// The host that is being offered a message cannot take it.
    pub(super) fn note_unfit(&mut self, index: u32) {
        let link = self.entries[index].link;
        // A lent message: who borrowed it has asked whom it could.
        if link != NONE {
            let host = self.links[link as usize].host as usize;
            let unfit = self.note(index).unfit;
            self.wide.add(unfit, host);
        }
    }

    /// A message of another shard, which the host of this connection cannot take, stays here for other hosts: it is taken
    /// under this id, like one of our own, and ends like one, or by [`Action::GiveBack`]. Borrowed at `taken`.
    ///
    /// # Panics
    /// When the connection is not known.
    pub fn keep_guest(&mut self, conn: ConnId, taken: Tick, now: Tick) -> EntryId {
        let link = self.link(conn).expect("borrowed messages are under way on connections");
        let (hop, host) = (self.links[link as usize].hop, self.links[link as usize].host);
        let index = self.entries.allocate();
        let entry = &mut self.entries[index];
        (entry.hop, entry.expires, entry.state) = (hop, OF_A_GUEST, State::Sending);
        self.guests += 1;
        let (id, unfit) = (self.entries.id(index), self.note(index).unfit);
        self.wide.add(unfit, host as usize);
        self.go_elsewhere(index, now);
        self.unload(link, Outcome::Elsewhere, taken, now);
        id
    }

    /// The guests of a hop that wait go back to their owners.
    pub(super) fn part_with_guests(&mut self, hop: u32) {
        let mut at = self.hops[hop as usize].elsewhere.head;
        while self.hops[hop as usize].guests > 0 && at != NONE {
            let index = at;
            at = self.entries[index].next;
            if self.entries[index].is_guest() {
                self.leave_elsewhere(index);
                self.part(index);
            }
        }
    }

    /// All guests that wait go back to their owners.
    pub fn part_with_all_guests(&mut self) {
        (0..self.hops.len()).for_each(|hop| self.part_with_guests(u32::try_from(hop).expect("named by 32 bits")));
    }

    fn part(&mut self, index: u32) {
        self.scheduler.parting.push_back(self.entries.id(index));
        let used = self.hops[self.entries[index].hop as usize].used;
        self.release(index, used);
    }

    /// A message is for other hosts from now on. A shard that has no connections of its own cannot choose one: there it
    /// waits for its own retry and is lent again.
    pub(super) fn go_elsewhere(&mut self, index: u32, now: Tick) -> Fate {
        self.entries[index].clear(flag::PROGRESS);
        self.forget_rest(index);
        let hop_index = self.entries[index].hop;
        let hop = &mut self.hops[hop_index as usize];
        let guest = self.entries[index].is_guest();
        if hop.cap == 0 || (guest && hop.is_orphaned()) {
            self.try_later(index, now);
            return Fate::Waits;
        }
        let entry = &mut self.entries[index];
        (entry.state, entry.when) = (State::Elsewhere, now);
        hop.elsewhere.push_back(&mut self.entries, index);
        hop.guests += u32::from(guest);
        self.note_condemned(index);
        self.note_stray(index);
        self.mark(hop_index);
        Fate::Waits
    }

    /// Takes a message out of the list of those that wait for another host.
    pub(super) fn leave_elsewhere(&mut self, index: u32) {
        let entry = &self.entries[index];
        let guest = entry.is_guest();
        let hop = &mut self.hops[entry.hop as usize];
        hop.guests -= u32::from(guest);
        hop.elsewhere.remove(&mut self.entries, index);
    }

    /// Looks after the first messages that some hosts cannot take: one thing to do for them, if any.
    pub(super) fn send_elsewhere(&mut self, hop: u32, now: Tick) -> Option<Action> {
        let (mut at, mut looked_at) = (self.hops[hop as usize].elsewhere.head, 0);
        while at != NONE && looked_at < LOOKED_AT_MAX && self.hops[hop as usize].errands == 0 {
            let index = at;
            let way = self.way_elsewhere(hop, index, now);
            let entry = &self.entries[index];
            at = entry.next;
            let too_long = entry.is_guest() && now >= entry.when + GUEST_WAIT;
            let busy_at = entry.when + PLACE_WAIT;
            match way {
                Way::Wake(link) => return Some(self.send_on_errand(link)),
                Way::Open(host) => {
                    if let Some(action) = self.open(hop, host, busy_at, now) {
                        return Some(action);
                    }
                }
                Way::Wait => {}
                Way::Later => {
                    self.leave_elsewhere(index);
                    self.try_later(index, now);
                    continue;
                }
            }
            looked_at += 1;
            if too_long {
                self.leave_elsewhere(index);
                self.part(index);
            }
        }
        None
    }

    fn send_on_errand(&mut self, link: u32) -> Action {
        self.unlist(link);
        let woken = &mut self.links[link as usize];
        (woken.promised, woken.errand) = (1, true);
        let hop = &mut self.hops[woken.hop as usize];
        hop.promised += 1;
        hop.errands += 1;
        Action::Feed { conn: self.conn(link) }
    }

    fn way_elsewhere(&self, hop: u32, index: u32, now: Tick) -> Way {
        let state = &self.hops[hop as usize];
        let unfit = self.unfit(index).unwrap_or_default();
        let may = |place: usize| !recipients::contains(unfit, place);
        let fit = || state.hosts.iter().enumerate().filter(|(place, host)| !host.retired && may(*place));
        let free = |host: &Host| host.idle.head != NONE && host.room() > 0;
        let quick = |host: &Host| host.ready > 0 && state.admits(host, &self.options, now);
        if let Some((_, host)) = fit().find(|(_, host)| quick(host) && free(host)) {
            return Way::Wake(host.idle.head);
        }
        if fit().any(|(_, host)| quick(host) || host.fresh > 0) {
            return Way::Wait;
        }
        let good = |host: &Host| host.standing != Standing::Dead && host.connecting == 0 && host.connect_at <= now;
        let open = |host: &Host| good(host) && (host.ready == 0 || host.doubted);
        if let Some((place, _)) = fit().find(|(_, host)| open(host)).filter(|_| state.cap > 0) {
            return Way::Open(u32::try_from(place).expect("hosts are few"));
        }
        // Slower than those that cannot take it.
        let slow = |host: &Host| host.ready > 0 && host.is_usable();
        if let Some((_, host)) = fit().find(|(_, host)| slow(host) && free(host)) {
            return Way::Wake(host.idle.head);
        }
        let any = fit().any(|(_, host)| slow(host) || host.connecting > 0);
        if any { Way::Wait } else { Way::Later }
    }

    /// When a busy connection makes room for the next of them, if none becomes idle before, or a guest has waited for too
    /// long: who has waited for longer, and has no way yet, is looked at whenever anything changes.
    pub(super) fn next_errand(&self, hop: u32, now: Tick) -> Tick {
        let (mut at, mut soonest) = (self.hops[hop as usize].elsewhere.head, Tick::NEVER);
        for _ in 0..LOOKED_AT_MAX {
            if at == NONE {
                break;
            }
            let entry = &self.entries[at];
            if entry.when + PLACE_WAIT > now {
                return soonest.min(entry.when + PLACE_WAIT);
            }
            if entry.is_guest() && entry.when + GUEST_WAIT > now {
                soonest = soonest.min(entry.when + GUEST_WAIT);
            }
            at = entry.next;
        }
        soonest
    }

    /// Whoever is not to be reached now is asked again with all others at the message's own retry.
    fn try_later(&mut self, index: u32, now: Tick) {
        if self.entries[index].is_guest() {
            return self.part(index);
        }
        self.drop_note(index);
        let entry = &mut self.entries[index];
        entry.when = Tick::NEVER;
        self.hops[entry.hop as usize].totals.deferred += 1;
        self.put_back(index, now);
    }

    /// Messages that others cannot take, for a connection whose host was not asked; how many.
    pub(super) fn take_elsewhere(&mut self, link: u32, most: u32, now: Tick, out: &mut Vec<Taken>) -> u32 {
        let (hop, host) = (self.links[link as usize].hop, self.links[link as usize].host as usize);
        let (mut at, mut count) = (self.hops[hop as usize].elsewhere.head, 0);
        for _ in 0..LOOKED_AT_MAX {
            if at == NONE || count == most {
                break;
            }
            let index = at;
            at = self.entries[index].next;
            if self.unfit(index).is_none_or(|unfit| !recipients::contains(unfit, host)) {
                self.leave_elsewhere(index);
                self.begin(index, link, now, out);
                count += 1;
            }
        }
        count
    }

    /// Hosts may change: whoever waits for another one is offered to all of them again, and who is being sent may go to all
    /// of them after that, since another may stand in the place of one that could not take him.
    pub(super) fn recall_elsewhere(&mut self) {
        self.part_with_all_guests();
        for hop in 0..self.hops.len() {
            while self.hops[hop].elsewhere.head != NONE {
                let index = self.hops[hop].elsewhere.head;
                self.hops[hop].elsewhere.remove(&mut self.entries, index);
                self.drop_note(index);
                self.hops[hop].push_back(&mut self.entries, index);
            }
        }
        for (_, note) in &self.notes {
            self.wide.words_mut(note.unfit).fill(0);
        }
    }
}
