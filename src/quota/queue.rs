//! Who goes next: a fair queue with two priorities. Pure: values in, values out.
//!
//! Among the tenants of a priority the one with the fewest permits in use for its weight goes first;
//! ties go by the start tag of start-time fair queueing. So tenants share permit-seconds, not
//! starts: slow calls buy no larger share than quick ones. Within a tenant it is first come, first
//! served. Sizes: a lookup is a hash, a choice looks at every tenant once, a removal is logarithmic.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::TenantSettings;
use crate::model::{Priority, Table, Tenant};

use super::clock::Moment;
use super::portion::TenantPortion;
use super::room::{Room, Turn};
use super::share::Term;
use super::tenant::{EXPECTED_BACK, TenantBook, TenantId, Ticket, Totals, Waiting};

/// Calls waiting for a permit of one account, and its tenants.
#[derive(Debug)]
pub(super) struct Queue<W> {
    tenants: Vec<TenantBook<W>>,
    names: Table<Tenant, u32>,
    /// What forgotten tenants did, together.
    pub(super) forgotten: Totals,
    waiting: [u32; 2],
    virtual_time: f64,
    /// Interactive calls chosen since the last batch call, while batch calls waited.
    since_batch: u32,
    /// Keys of the next call at the back and at the front.
    back: i64,
    front: i64,
}

/// The end of the tenant's queue at which a call begins to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind the tenant's others.
    Back,
    /// Before them: a call that kintone refused and that is sent again.
    Front,
}

/// Tenants remembered per account although they have nothing in use and nothing waiting.
const TENANTS_REMEMBERED: usize = 256;
/// Of so many grants one goes to a batch call while both wait.
const BATCH_TURN: u32 = 10;
/// The part of the permits (one in so many) that is kept for tenants expected back.
const GUEST_PART: u32 = 16;

impl<W> Queue<W> {
    /// An empty queue without tenants.
    pub(super) fn new() -> Self {
        Self {
            tenants: Vec::new(),
            names: Table::default(),
            forgotten: Totals::default(),
            waiting: [0; 2],
            virtual_time: 0.0,
            since_batch: 0,
            back: 0,
            front: -1,
        }
    }

    /// Calls waiting.
    pub(super) const fn len(&self) -> u32 {
        self.waiting[0] + self.waiting[1]
    }

    /// Calls of a priority waiting.
    pub(super) const fn len_of(&self, priority: Priority) -> u32 {
        self.waiting[priority as usize]
    }

    /// The tenants with their handles, idle ones among them.
    pub(super) fn entries(&self) -> impl Iterator<Item = (TenantId, &TenantBook<W>)> {
        (0..).map(TenantId).zip(&self.tenants)
    }

    /// One tenant.
    pub(super) fn tenant(&self, id: TenantId) -> &TenantBook<W> {
        &self.tenants[id.0 as usize]
    }

    /// Finds a tenant or makes it, with what the configuration says about it.
    pub(super) fn enter(
        &mut self,
        name: &str,
        settings: &BTreeMap<Tenant, TenantSettings>,
    ) -> TenantId {
        // Most accounts have one tenant: it is found without a hash.
        let first = self.tenants.first();
        if first.is_some_and(|first| first.name.as_str() == name) {
            return TenantId(0);
        }
        if let Some(&index) = self.names.get(name) {
            return TenantId(index);
        }
        let name = Tenant::parse(name).unwrap_or_else(|_| {
            // Callers' names and tenants have one alphabet and length.
            Tenant::parse("other").expect("a plain word is a tenant")
        });
        if let Some(&index) = self.names.get(&name) {
            return TenantId(index);
        }
        let mut book = TenantBook::new(name.clone());
        book.configure(settings);
        let index = self.vacant().unwrap_or(self.tenants.len());
        if let Some(old) = self.tenants.get_mut(index) {
            self.names.remove(&old.name);
            self.forgotten.requests += old.totals.requests;
            self.forgotten.held_ns += old.totals.held_ns;
            *old = book;
        } else {
            if self.tenants.is_empty() {
                self.tenants.reserve_exact(1);
            }
            self.tenants.push(book);
        }
        let index = u32::try_from(index).expect("tenants are bounded by calls and a constant");
        self.names.insert(name, index);
        TenantId(index)
    }

    /// Applies new settings to the tenants.
    pub(super) fn configure(&mut self, settings: &BTreeMap<Tenant, TenantSettings>) {
        for tenant in &mut self.tenants {
            tenant.configure(settings);
        }
    }

    /// Whether a call could go at once if nothing waited.
    pub(super) fn may_start(
        &self,
        tenant: TenantId,
        priority: Priority,
        (permits, term): (u32, Term),
        room: &Room,
    ) -> bool {
        room.admits(priority, permits, Turn::Usual)
            && room.lasts(term, permits)
            && self.tenant(tenant).below_ceiling(permits)
            && self.leaves_guests_room(self.tenant(tenant), permits, room)
    }

    /// These tenants are here in portions from now on, all others whole.
    pub(super) fn apportion(&mut self, portions: &[TenantPortion]) {
        for book in &mut self.tenants {
            book.portion = TenantPortion::of(portions, &book.name);
        }
    }

    /// Lets a call wait.
    pub(super) fn push(
        &mut self,
        tenant: TenantId,
        priority: Priority,
        place: Place,
        waiting: Waiting<W>,
    ) -> Ticket {
        let key = match place {
            Place::Back => {
                self.back += 1;
                self.back - 1
            }
            Place::Front => {
                self.front -= 1;
                self.front + 1
            }
        };
        self.waiting[priority as usize] += 1;
        let book = &mut self.tenants[tenant.0 as usize];
        if book.queued() == 0 {
            book.catch_up(self.virtual_time);
        }
        book.waiting[priority as usize].insert(key, waiting);
        Ticket {
            tenant,
            priority,
            key,
        }
    }

    /// Takes a waiting call out; `None` if it does not wait any more.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiting<W>> {
        let book = self.tenants.get_mut(ticket.tenant.0 as usize)?;
        let waiting = book.waiting[ticket.priority as usize].remove(&ticket.key)?;
        self.waiting[ticket.priority as usize] -= 1;
        Some(waiting)
    }

    /// Takes all waiting calls out.
    pub(super) fn drain(&mut self) -> Vec<W> {
        self.waiting = [0; 2];
        let books = self.tenants.iter_mut();
        let waiting = books.flat_map(|book| book.waiting.iter_mut().map(std::mem::take));
        waiting
            .flat_map(BTreeMap::into_values)
            .map(|waiting| waiting.waiter)
            .collect()
    }

    /// Which waiting call goes next, if one may.
    pub(super) fn next(&self, room: &Room) -> Option<Ticket> {
        if self.len() == 0 || !room.fits(1) {
            return None;
        }
        let both = self.waiting.iter().all(|waiting| *waiting > 0);
        if both && self.since_batch + 1 >= BATCH_TURN {
            let batch = self.best(Priority::Batch, room, Turn::Tenth);
            if let Choice::Goes(ticket) = batch {
                return Some(ticket);
            }
        }
        match self.best(Priority::Interactive, room, Turn::Usual) {
            Choice::Goes(ticket) => Some(ticket),
            // It waits for more permits than are free: nobody may take them from under it.
            Choice::Waits => None,
            Choice::Nobody => match self.best(Priority::Batch, room, Turn::Usual) {
                Choice::Goes(ticket) => Some(ticket),
                Choice::Waits | Choice::Nobody => None,
            },
        }
    }

    /// Whether free places are kept for a call that wants more than there are.
    pub(super) fn holds_places(&self, room: &Room) -> bool {
        matches!(
            self.best(Priority::Interactive, room, Turn::Usual),
            Choice::Waits
        )
    }

    /// Notes that the call of this ticket, taken out by [`Self::remove`], was chosen by
    /// [`Self::next`].
    pub(super) fn chosen(&mut self, ticket: Ticket) {
        match ticket.priority {
            Priority::Batch => self.since_batch = 0,
            Priority::Interactive if self.len_of(Priority::Batch) > 0 => self.since_batch += 1,
            Priority::Interactive => self.since_batch = 0,
        }
    }

    /// Counts permits granted.
    pub(super) fn start(&mut self, tenant: TenantId, permits: u32, now: Moment) {
        let book = &mut self.tenants[tenant.0 as usize];
        self.virtual_time = book.start(permits, self.virtual_time, now);
    }

    /// Counts permits of a call that an earlier process was granted.
    pub(super) fn inherit(&mut self, tenant: TenantId, permits: u32) {
        self.tenants[tenant.0 as usize].in_use += permits;
    }

    /// Counts permits given back that were held for `held`.
    pub(super) fn end(&mut self, tenant: TenantId, permits: u32, held: Duration, now: Moment) {
        self.tenants[tenant.0 as usize].end(permits, held, now);
    }

    /// Learns how long a tenant's calls take.
    pub(super) fn learn(&mut self, tenant: TenantId, held: Duration) {
        self.tenants[tenant.0 as usize].service.learn(held);
    }

    /// The waiting call that gives way to a new one of `tenant` in a full queue: the youngest of the
    /// tenant with most, batch before interactive. A tenant's own batch call also gives way to its
    /// interactive one.
    pub(super) fn displaced(&self, tenant: TenantId, priority: Priority) -> Option<Ticket> {
        let (index, fullest) = self
            .tenants
            .iter()
            .enumerate()
            .max_by_key(|(_, book)| book.queued())?;
        let mine = self.tenant(tenant);
        if fullest.queued() > mine.queued() {
            let index = u32::try_from(index).ok()?;
            return fullest.youngest(TenantId(index), &[Priority::Batch, Priority::Interactive]);
        }
        match priority {
            Priority::Interactive => mine.youngest(tenant, &[Priority::Batch]),
            Priority::Batch => None,
        }
    }

    /// How many grants it takes until the next call of `tenant` would go, `places` permits going
    /// round: what waits before it, as far as the fair shares let it go first.
    pub(super) fn turns_before(&self, tenant: TenantId, priority: Priority, places: u32) -> u32 {
        let mine = self.tenant(tenant);
        let level = priority as usize;
        let ahead = mine.waiting[level].len() as u64;
        let others = self
            .tenants
            .iter()
            .filter(|book| !std::ptr::eq(*book, mine));
        let competing = others.filter(|book| !book.waiting[level].is_empty());
        let competing: u64 = competing.map(TenantBook::claim).sum();
        let share = (u64::from(places) * mine.claim() / (competing + mine.claim()).max(1)).max(1);
        let owed = share.saturating_sub(u64::from(mine.in_use));
        let fair = if ahead < owed {
            ahead
        } else {
            owed + (ahead - owed) * u64::from(places.max(1)) / share
        };
        let others = u64::from(self.waiting[level]);
        let same = fair.min(others);
        let all = match priority {
            Priority::Interactive if self.len_of(Priority::Batch) > 0 => same + same / 9,
            Priority::Interactive => same,
            Priority::Batch => {
                let urgent = u64::from(self.len_of(Priority::Interactive));
                same + urgent.min(same * 9 + 9)
            }
        };
        u32::try_from(all).unwrap_or(u32::MAX)
    }

    /// Gives memory back that a rush has left.
    pub(super) fn shrink(&mut self) {
        if self.tenants.iter().all(TenantBook::is_idle) {
            self.tenants.shrink_to_fit();
            self.names.shrink_to_fit();
        }
    }

    fn best(&self, priority: Priority, room: &Room, turn: Turn) -> Choice {
        let mut best: Option<(&TenantBook<W>, usize)> = None;
        for (index, book) in self.tenants.iter().enumerate() {
            let Some((_, head)) = book.waiting[priority as usize].first_key_value() else {
                continue;
            };
            if book.below_ceiling(head.permits)
                && room.lasts(head.term, head.permits)
                && self.leaves_guests_room(book, head.permits, room)
                && best.is_none_or(|(other, _)| book.goes_before(other))
            {
                best = Some((book, index));
            }
        }
        let Some((book, index)) = best else {
            return Choice::Nobody;
        };
        let head = book.waiting[priority as usize].first_key_value();
        match (head, u32::try_from(index)) {
            (Some((&key, head)), Ok(index)) if room.admits(priority, head.permits, turn) => {
                Choice::Goes(Ticket {
                    tenant: TenantId(index),
                    priority,
                    key,
                })
            }
            _ => Choice::Waits,
        }
    }

    /// Whether `book` may have `permits` more: a tenant beyond its share leaves a few places to
    /// those that were here lately and have not more than they usually take. Otherwise a call of
    /// theirs would wait for the end of one of the others' calls, however long those are.
    fn leaves_guests_room(&self, book: &TenantBook<W>, permits: u32, room: &Room) -> bool {
        let most = room.allowed / GUEST_PART;
        let free = room.allowed.saturating_sub(room.in_use + permits);
        if free >= most || self.tenants.len() < 2 {
            return true;
        }
        let mut claims = 0;
        let mut expected = 0;
        for other in &self.tenants {
            let here = other.queued() > 0 || other.in_use > 0;
            let lately = room.now.since(other.used_at) <= EXPECTED_BACK;
            if !here && !lately {
                continue;
            }
            claims += other.claim();
            if other.queued() == 0 && !std::ptr::eq(other, book) {
                expected += other.usual().saturating_sub(other.in_use).min(most);
            }
        }
        let share = u64::from(room.allowed) * book.claim() / claims.max(1);
        u64::from(book.in_use + permits) <= share.max(1) || free >= expected.min(most)
    }

    fn vacant(&self) -> Option<usize> {
        if self.tenants.len() < TENANTS_REMEMBERED {
            return None;
        }
        let tenants = self.tenants.iter().enumerate();
        let idle = tenants.filter(|(_, book)| book.is_idle());
        idle.min_by_key(|(_, book)| book.used_at)
            .map(|(index, _)| index)
    }
}

/// What a priority has to offer.
enum Choice {
    Goes(Ticket),
    Waits,
    Nobody,
}

#[cfg(test)]
mod tests;
