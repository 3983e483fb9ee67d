use super::*;

const NOW: Moment = Moment::ZERO;

struct Bench {
    queue: Queue<u32>,
    room: Room,
}

impl Bench {
    fn new(allowed: u32) -> Self {
        let room = Room {
            allowed,
            in_use: 0,
            batch_in_use: 0,
            reserve: 0,
            long_left: allowed,
            now: NOW,
        };
        Self {
            queue: Queue::new(),
            room,
        }
    }

    fn tenant(&mut self, name: &str) -> TenantId {
        self.queue.enter(name, &BTreeMap::new())
    }

    fn push(&mut self, name: &str, priority: Priority, permits: u32, waiter: u32) -> Ticket {
        let tenant = self.tenant(name);
        let term = Term::Short;
        let waiting = Waiting {
            permits,
            term,
            waiter,
        };
        self.queue.push(tenant, priority, Place::Back, waiting)
    }

    /// Grants the next call and tells who it was.
    fn grant(&mut self) -> Option<u32> {
        let ticket = self.queue.next(&self.room)?;
        let waiting = self.queue.remove(ticket)?;
        self.queue.chosen(ticket);
        self.queue.start(ticket.tenant, waiting.permits, NOW);
        self.room.in_use += waiting.permits;
        if ticket.priority == Priority::Batch {
            self.room.batch_in_use += waiting.permits;
        }
        Some(waiting.waiter)
    }

    /// Gives a permit of an interactive call back.
    fn end(&mut self, name: &str) {
        let tenant = self.tenant(name);
        self.queue.end(tenant, 1, Duration::ZERO, NOW);
        self.room.in_use -= 1;
    }
}

#[test]
fn the_tenant_with_least_in_use_goes_first_and_its_calls_in_order() {
    let mut bench = Bench::new(4);
    for waiter in 0..3 {
        bench.push("a", Priority::Interactive, 1, waiter);
    }
    bench.push("b", Priority::Interactive, 1, 10);
    let order: Vec<_> = std::iter::from_fn(|| bench.grant()).collect();
    assert_eq!(order, [0, 10, 1, 2]);
}

#[test]
fn a_call_sent_again_stands_before_its_tenants_others() {
    let mut bench = Bench::new(2);
    bench.push("a", Priority::Interactive, 1, 1);
    let tenant = bench.tenant("a");
    let waiting = Waiting {
        term: Term::Short,
        permits: 1,
        waiter: 0,
    };
    bench
        .queue
        .push(tenant, Priority::Interactive, Place::Front, waiting);
    assert_eq!(bench.grant(), Some(0));
    assert_eq!(bench.grant(), Some(1));
}

#[test]
fn every_tenth_grant_is_for_batch_while_both_wait() {
    let mut bench = Bench::new(1);
    for waiter in 0..40 {
        bench.push("a", Priority::Interactive, 1, waiter);
    }
    for waiter in 100..104 {
        bench.push("a", Priority::Batch, 1, waiter);
    }
    let mut batch = Vec::new();
    for grant in 1..=40 {
        if bench.grant().is_some_and(|waiter| waiter >= 100) {
            batch.push(grant);
            bench.room.batch_in_use -= 1;
        }
        bench.end("a");
    }
    assert_eq!(batch, [10, 20, 30, 40]);
}

#[test]
fn batch_leaves_the_reserve_alone() {
    let mut bench = Bench::new(10);
    bench.room.reserve = 3;
    for waiter in 0..10 {
        bench.push("a", Priority::Batch, 1, waiter);
    }
    assert_eq!(std::iter::from_fn(|| bench.grant()).count(), 7);
    bench.push("b", Priority::Interactive, 1, 100);
    assert_eq!(bench.grant(), Some(100));
}

#[test]
fn nobody_passes_a_call_that_waits_for_more_permits() {
    let mut bench = Bench::new(4);
    bench.room.in_use = 2;
    bench.push("a", Priority::Interactive, 3, 0);
    bench.push("a", Priority::Interactive, 1, 1);
    bench.push("a", Priority::Batch, 1, 2);
    assert_eq!(bench.grant(), None);
    bench.room.in_use = 1;
    assert_eq!(bench.grant(), Some(0));
}

#[test]
fn the_youngest_batch_call_of_the_fullest_tenant_gives_way_first() {
    let mut bench = Bench::new(0);
    let batch = bench.push("many", Priority::Batch, 1, 0);
    let urgent = bench.push("many", Priority::Interactive, 1, 1);
    bench.push("few", Priority::Interactive, 1, 2);
    let few = bench.tenant("few");
    let many = bench.tenant("many");
    assert_eq!(
        bench.queue.displaced(few, Priority::Interactive),
        Some(batch)
    );
    assert_eq!(
        bench.queue.displaced(many, Priority::Interactive),
        Some(batch)
    );
    assert_eq!(bench.queue.displaced(many, Priority::Batch), None);
    bench.queue.remove(batch);
    bench.push("many", Priority::Interactive, 1, 3);
    let youngest = bench.queue.displaced(few, Priority::Interactive);
    assert!(youngest.is_some_and(|ticket| ticket != urgent && ticket.tenant == many));
}

#[test]
fn a_tenant_expected_back_finds_a_place_and_is_not_expected_for_ever() {
    let mut bench = Bench::new(32);
    bench.push("light", Priority::Interactive, 1, 100);
    bench.grant();
    bench.end("light");
    for waiter in 0..64 {
        bench.push("flood", Priority::Interactive, 1, waiter);
    }
    assert_eq!(std::iter::from_fn(|| bench.grant()).count(), 30);
    bench.push("light", Priority::Interactive, 1, 101);
    assert_eq!(bench.grant(), Some(101));
    bench.end("light");
    bench.room.now = NOW.after(Duration::from_secs(11));
    assert_eq!(std::iter::from_fn(|| bench.grant()).count(), 2);
}

#[test]
fn tenants_are_bounded_and_what_they_did_is_kept() {
    let mut bench = Bench::new(1);
    let count = TENANTS_REMEMBERED as u32 * 3;
    for number in 0..count {
        let name = format!("tenant-{number}");
        bench.push(&name, Priority::Interactive, 1, number);
        assert_eq!(bench.grant(), Some(number));
        bench.end(&name);
    }
    assert_eq!(bench.queue.tenants.len(), TENANTS_REMEMBERED);
    assert_eq!(bench.queue.names.len(), TENANTS_REMEMBERED);
    let live: u64 = bench
        .queue
        .tenants
        .iter()
        .map(|book| book.totals.requests)
        .sum();
    assert_eq!(live + bench.queue.forgotten.requests, u64::from(count));
}
