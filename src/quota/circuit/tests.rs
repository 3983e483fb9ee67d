use super::*;
use crate::quota::in_use::InUse;

const SETTINGS: CircuitSettings = CircuitSettings {
    maintenance_after: 3,
    maintenance_over: Duration::from_secs(1),
    probe: Duration::from_secs(1),
    probe_max: Duration::from_secs(4),
    unknown_after: 3,
    unknown_over: Duration::from_secs(60),
    unknown_per_hour: 5,
};

/// A circuit, and what is sent to its account.
struct Line {
    circuit: Circuit,
    sent: u64,
    now: Moment,
}

impl Line {
    fn new() -> Self {
        Self {
            circuit: Circuit::new(),
            sent: 0,
            now: Moment::default(),
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
    }

    fn gate(&mut self) -> Option<Denial> {
        self.circuit.gate(Mode::Forward, self.now)
    }

    /// The answer to a call that is sent now.
    fn answered(&mut self, health: Health) -> Option<Event> {
        self.sent += 1;
        let sent = (self.sent, self.sent);
        self.circuit.answered(health, sent, &SETTINGS, self.now)
    }

    fn state(&self) -> CircuitState {
        self.circuit.state(self.now)
    }

    /// Three answers of maintenance over a second.
    fn open(&mut self) {
        assert_eq!(self.answered(Health::Maintenance), None);
        self.pass(500);
        assert_eq!(self.answered(Health::Maintenance), None);
        self.pass(500);
        assert_eq!(self.answered(Health::Maintenance), Some(Event::Opened));
    }
}

fn refused_for(ms: u64) -> Option<Denial> {
    Some(seen(Duration::from_millis(ms)))
}

/// Slots that differ.
fn slots<const N: usize>() -> [Slot; N] {
    let mut in_use = InUse::default();
    std::array::from_fn(|_| in_use.begin_for_test())
}

#[test]
fn one_bad_answer_lets_calls_go_one_at_a_time_until_another_says_more() {
    let mut line = Line::new();
    assert_eq!(line.answered(Health::Maintenance), None);
    assert_eq!((line.gate(), line.state()), (None, CircuitState::Suspect));
    let [first, second] = slots();
    assert!(line.circuit.admits(line.now));
    line.circuit.granted(first, line.now);
    assert!(!line.circuit.admits(line.now), "one at a time");
    line.pass(1000);
    assert!(line.circuit.admits(line.now), "the first may take its time");
    line.circuit.granted(second, line.now);
    line.circuit.left(second);
    assert_eq!(line.answered(Health::Serving), None);
    assert_eq!(line.state(), CircuitState::Closed);
    assert!(line.circuit.is_over(80, line.now));
}

#[test]
fn answers_in_a_row_open_it_only_over_time_and_each_probe_in_vain_doubles_the_pause() {
    let mut line = Line::new();
    for _ in 0..50 {
        assert_eq!(line.answered(Health::Maintenance), None, "in one moment");
    }
    line.pass(1000);
    assert_eq!(line.answered(Health::Maintenance), Some(Event::Opened));
    for pause in [1000, 2000, 4000, 4000] {
        assert_eq!(line.gate(), refused_for(pause));
        line.pass(pause - 1);
        assert_eq!(line.gate(), refused_for(1));
        line.pass(1);
        assert_eq!((line.gate(), line.state()), (None, CircuitState::Probing));
        assert_eq!(line.answered(Health::Maintenance), None, "told once");
    }
}

#[test]
fn answers_to_calls_of_before_neither_close_it_nor_count_as_probes() {
    let mut line = Line::new();
    line.open();
    line.pass(1000);
    assert_eq!(line.gate(), None);
    let sent = (line.sent, line.sent);
    for old in [Health::Serving, Health::Maintenance] {
        assert_eq!(line.circuit.answered(old, sent, &SETTINGS, line.now), None);
        assert_eq!(line.state(), CircuitState::Probing, "{old:?}");
    }
    assert_eq!(line.answered(Health::Unclear), None);
    assert_eq!(line.state(), CircuitState::Probing);
    assert_eq!(line.answered(Health::Serving), Some(Event::Recovered));
}

#[test]
fn after_it_calls_come_back_one_more_an_answer_and_twice_as_many_a_second() {
    let mut line = Line::new();
    line.open();
    line.pass(1000);
    assert_eq!(line.gate(), None);
    line.answered(Health::Serving);
    assert_eq!(line.state(), CircuitState::Rising(2));
    line.answered(Health::Serving);
    assert_eq!(line.state(), CircuitState::Rising(3));
    for slot in slots::<3>() {
        assert!(line.circuit.admits(line.now));
        line.circuit.granted(slot, line.now);
    }
    assert!(!line.circuit.admits(line.now));
    line.pass(1000);
    assert_eq!(line.state(), CircuitState::Rising(6));
    assert!(!line.circuit.is_over(7, line.now));
    assert_eq!(
        line.answered(Health::Maintenance),
        Some(Event::Opened),
        "again"
    );
    assert_eq!(line.gate(), refused_for(2000));
    line.pass(2000);
    assert_eq!(line.gate(), None);
    line.answered(Health::Serving);
    line.pass(6000);
    assert!(line.circuit.is_over(80, line.now));
    assert_eq!(line.state(), CircuitState::Closed);
}

#[test]
fn a_tunnel_is_kept_out_until_what_is_known_is_old() {
    let mut line = Line::new();
    line.open();
    line.pass(1000);
    assert_eq!(line.circuit.gate(Mode::Tunnel, line.now), refused_for(1000));
    line.pass(59_999);
    assert_eq!(line.circuit.gate(Mode::Tunnel, line.now), refused_for(1));
    line.pass(1);
    assert_eq!(line.circuit.gate(Mode::Tunnel, line.now), None);
    assert_eq!(line.state(), CircuitState::Closed);
}

#[test]
fn an_announcement_holds_to_its_end_whatever_is_answered_and_a_call_goes_to_see() {
    let mut line = Line::new();
    let end = line.now.after(Duration::from_secs(3600));
    line.circuit.plan(end, line.sent, &SETTINGS);
    let hour = Some(Duration::from_secs(3600));
    let planned = Denial::AccountMaintenance(Detail::MaintenancePlanned, hour);
    assert_eq!(line.gate(), Some(planned));
    line.answered(Health::Serving);
    assert_eq!(line.gate(), Some(planned), "sent before it was heard");
    line.now = end;
    assert_eq!((line.gate(), line.state()), (None, CircuitState::Probing));
    line.circuit
        .plan(end.after(Duration::from_secs(1)), line.sent, &SETTINGS);
    line.circuit.unplan(line.now);
    assert_eq!(line.gate(), None, "taken back");
    line.open_is_left_alone();
}

impl Line {
    /// Taking an announcement back does not end a maintenance that is seen.
    fn open_is_left_alone(&mut self) {
        let mut seen = Self::new();
        seen.open();
        seen.circuit.unplan(seen.now);
        assert_eq!(seen.gate(), refused_for(1000));
    }
}

#[test]
fn a_domain_is_unknown_when_it_was_said_often_and_over_time_and_nothing_else() {
    let mut line = Line::new();
    for _ in 0..10 {
        assert_eq!(line.answered(Health::NoSuchDomain), None);
    }
    line.pass(60_000);
    for nothing in [Health::Maintenance, Health::Unclear] {
        assert_eq!(line.answered(nothing), None, "tells nothing of the domain");
    }
    assert_eq!(
        line.answered(Health::NoSuchDomain),
        Some(Event::Unknown(11))
    );
    assert_eq!(line.answered(Health::Serving), None);
    line.pass(60_000);
    for _ in 0..2 {
        assert_eq!(line.answered(Health::NoSuchDomain), None, "counts anew");
    }
    line.circuit.close_unknown();
    assert_eq!(line.gate(), Some(Denial::AccountUnknown));
    line.answered(Health::Serving);
    assert_eq!(line.gate(), Some(Denial::AccountUnknown), "until confirmed");
    assert!(line.circuit.is_lasting() && !line.circuit.is_over(80, line.now));
    line.circuit.confirm();
    assert_eq!(line.gate(), None);
    assert!(line.circuit.is_over(80, line.now));
}

#[test]
fn zero_switches_off() {
    let off = CircuitSettings {
        maintenance_after: 0,
        unknown_after: 0,
        ..SETTINGS
    };
    let mut circuit = Circuit::new();
    for second in 0..1000 {
        let now = Moment::default().after(Duration::from_secs(second));
        for health in [Health::Maintenance, Health::NoSuchDomain] {
            assert_eq!(circuit.answered(health, (1, 1), &off, now), None);
        }
        assert_eq!(circuit.gate(Mode::Forward, now), None);
    }
}
