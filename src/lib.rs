//! kintone-egress: an outbound gateway for kintone.
//!
//! # Bird's eye
//! Internal services send their kintone REST calls through this forward proxy. Each call leaves from
//! one of the published addresses and from nothing else, within the limits of the account it goes
//! to, which several tenants, several hosts and the customer's own users share. Calls wait their
//! turn instead of failing; a refusal says who must do what.
//!
//! # Floors
//! Imports run downward only; a test (`tests/tidy`) holds this table against the code.
//!
//! | floor | unit | does | may import |
//! |---|---|---|---|
//! | 1 | [`model`] | the vocabulary: account, caller, address, outcome | nothing of ours |
//! | 1 | [`drain`] | going away calmly | nothing of ours |
//! | 1 | [`client`] | one connection that requests are sent on, as the client | nothing of ours |
//! | 1 | [`descriptors`] | how near the limit of file descriptors is | nothing of ours |
//! | 2 | [`config`] | what the operator writes, validated, every fault with its place | `model` |
//! | 2 | [`kintone`] | what kintone is: domains, calls, answers | `model` |
//! | 3 | [`telemetry`] | metrics, one log line a call, calls under way | `config`, `kintone`, `model` |
//! | 3 | [`tls`] | TLS we originate and answer, the private CA, the ClientHello of a CONNECT | `config`, `kintone`, `model` |
//! | 3 | [`quota`] | may this call go: permits, rate, fair queue, calls of the day; what is in flight, over restarts | `config`, `kintone`, `model` |
//! | 3 | [`published`] | for customers: the list of addresses, its notice, its page and feeds | `config`, `kintone`, `model` |
//! | 3 | [`notify`] | telling people: many failures, one beginning, one end | `config`, `kintone`, `model` |
//! | 4 | [`server`] | callers' connections and their limits | the floors below it |
//! | 4 | [`fleet`] | permits shared with other hosts: the ledger, its notice board, the beat | `quota`, `tls`, `config`, `model` |
//! | 4 | [`handover`] | connections to the other hosts, over which calls are handed to them | `tls`, `config`, `client` |
//! | 4 | [`egress`] | the one way out: source, resolve, vet, dial, pool; what the internet sees | `tls`, `config`, `client`, `model` |
//! | 5 | [`proxy`] | the life of a call | the floors below |
//! | 5 | [`admin`] | what operators see and order | the floors below |
//! | 6 | [`gateway`] | builds, wires, spawns, drains | everything above |
//! | 6 | [`operator`] | for people at a terminal: `explain`, `doctor`, `addresses` | everything above but `gateway` |
//!
//! # The path of a call
//! Forward: `server` accepts (a place first), `server/heads` looks for what hyper hides of a head →
//! `proxy/judge`, which `explain` shares: `proxy/request` reads the head once → `proxy/identity`
//! says who it is → `kintone/domain` gives the account → `proxy/known` has the rights → `egress`
//! says whether an address is usable that the account takes, as far as answers have told
//! (`egress/acceptance`) → `quota` admits (the one `admit` of
//! `proxy/journey`, which looks at the budget of the day before: `proxy/budget`): first by the account's
//! circuit, whether kintone serves it (`quota/circuit`), then by permits and rate → `egress`: a pooled
//! connection, or source → resolve → vet → dial → TLS, with `[verify]` an echo's word →
//! headers stripped, `kintone/call` says what the call means (effective method, path, app, may it be
//! repeated) and reads its body as it passes (`proxy/upload`), sent, and counted for the day in the
//! moment before its first byte (`egress/witness`, `quota/daily`) → 1xx answers pass beside
//! (`server/interim`) → the framing of kintone's answer is judged (`proxy/headers`) →
//! `kintone/answer` judges the head, and of a failure the beginning of its body; the quota hears it, and
//! the address that was refused is left for another one (`proxy/edge`) →
//! the body streams with the permit, the connection and the record inside (`proxy/answer`) → last
//! byte: permit back, one log line, metrics.
//!
//! Tunnel: the same up to `admit` (`proxy/tunnel`), dial, 200, the ClientHello judged, bytes both
//! ways (`proxy/passage` over `proxy/relay`) until both ends close.
//!
//! Inspect: the same up to the rights (`proxy/judge` says which CONNECT is inspected), 200, the
//! ClientHello judged, TLS by `tls/authority` (`proxy/inspect`); then `server/within` serves the calls
//! inside with a handler that it is given: `proxy/judge` again, by the rules of the moment and by what
//! the CONNECT proved (`proxy/inside`), and the path of forward.
//!
//! # Several hosts
//! `fleet/driver` beats: it reads the rows of all hosts from the store (`fleet/exchange`), lets the
//! ledger think (`fleet/ledger`, pure), pushes shares down into `quota`, keeps what was lent in the
//! state directory and hangs its own row up. No call ever asks it. A permit beyond the host's own comes
//! with a fence, which `egress/line` asks just before the first byte: a loan may have ended since. What
//! runs on for too long after that is cut at its socket (`quota/sharing`).
//!
//! A call to an account that accepts only another host's address is handed to that host
//! (`proxy/elsewhere`): this one has judged it, takes no permit and passes it on over TLS in which both
//! prove who they are (`proxy/errand`, `handover`), with what was proved of the caller (`proxy/handed`).
//! The other one judges it again (`proxy/reception`), admits, carries, logs and counts it, and hands
//! nothing on. The call by which a host finds out goes the same way after kintone's edge has refused it
//! (`proxy/edge`, `proxy/handover`): its permit is given back first. Callers have no certificate of the fleet's and cannot reach that listener.
//!
//! # A change in the day
//! `gateway/orders` hears signals and the admin listener; a reload runs beside it, one at a time, and
//! may wait for the disk. `gateway/state` reads the file, keeps what only a restart can change
//! (`config/restart`), tries all that can fail, and only then hands the new configuration to each
//! part: limits to `server`, plans to `quota` (permits, queues and tokens stay), rules to `proxy` (a
//! call keeps those it began with; what was seen of a caller stays), trust anchors to `egress`, the
//! level to the log.
//!
//! Which addresses are used is `published`'s to say: the configuration, what was published last
//! (`published.json` in the state directory) and the day in Japan give a list, at the start, at each
//! midnight and after a reload; `gateway/publication` hands its states to `egress` and `proxy`, the
//! public listener shows what was rendered of it. `egress` tells `gateway/evidence` the local address
//! of each connection that stands, which `published/evidence` keeps by account and day.
//!
//! As which address a bind leaves only others can see: `egress/verify` asks echoes from each address in use,
//! at the start, when it comes back and all the time, and shuts the gate of one that is seen as another, which
//! every call passes (`egress/source`). A new connection waits for a round that began when it stood
//! (`egress/proof`, `egress/verify/vouch`): a wrong translation is noticed before a call leaves by it. What was proven is kept in the state directory for a restart.
//!
//! # Telling people
//! A call that ends goes through `notify/feed`, which never makes it wait: a failure always, a success only
//! where a failure of its account is followed. `notify/clerk`, one task, hears what it shows of each matter
//! (`notify/sign`), when an episode begins and ends (`notify/episode`), and whether so many begin that the
//! cause may be ours (`notify/brake`); letters become mails in the state directory (`notify/spool`), and
//! those to operators also messages to their webhook (`notify/notice`). `notify/post` brings both to their
//! servers, neither waiting for the other. What the clerk must know of the rest (`notify/surroundings`) is
//! answered by `gateway/notices`.
//!
//! # What must always hold
//! Every integration test checks these in one shared harness (`tests/support`).
//!
//! 1. Every packet to kintone leaves from a bind address of the configuration whose published address
//!    is on the list as active and, with `[verify]`, seen so from outside (the gateway's own probes without
//!    credentials from one that is planned, too); when none is usable, nothing leaves. IPv4 only. (`egress/dial` is the only bind and connect.)
//! 2. At every instant the calls in flight for an account are at most its limit. (A permit is taken
//!    before the first byte and given back after the last; [`quota::Permit`] settles when kintone's
//!    end was not seen. `quota/record` holds it over the end of the process and of the machine,
//!    `fleet/ledger` over all hosts.)
//! 3. acquired - released - held permits is 0 at every instant; at rest and after settling held is
//!    0, after cancellation at any await point, panic, reset at any byte.
//! 4. No call is sent to kintone twice unless it is safe to repeat: not a byte was sent, kintone
//!    refused it at admission, its edge refused the address that it came from, or it is a read. None
//!    is lost without an answer.
//! 5. A connection to kintone never carries two host names; one account's caller never sees
//!    another's bytes.
//! 6. No secret is in a log, metric, error or page.
//!
//! # Many hosts, one limit
//! `fleet/ledger` is the protocol, pure: every host owns a fixed part of each account's permits and
//! lends what it does not need, for a time. It takes the permits away from itself before it tells, and
//! a borrower's calls begin before a moment that its own clock shows; so the store between the hosts is
//! a notice board that may lose, delay, repeat or forget. `fleet/row` is what hosts tell each other,
//! `fleet/share` what the ledger and `quota` do. `fleet/side` is what hosts tell each other
//! beside permits, over a connection of its own: no limit rests on it.
//!
//! # Absent on purpose
//! `quota` knows no HTTP and no metrics; `egress` knows no quota; `telemetry` calls nobody back;
//! `server` does not know `proxy` (it takes a `tower::Service`); `proxy/forward` and `proxy/tunnel`
//! do not know each other; `proxy/inspect` is handed the handler of the calls inside; a child file never imports its `mod.rs`. What two units of one floor
//! must tell each other is wired in `gateway` as values or closures. Gauges are taken when they are
//! scraped, from snapshots.

pub mod admin;
pub mod client;
pub mod config;
pub mod descriptors;
pub mod drain;
pub mod egress;
pub mod fleet;
pub mod gateway;
pub mod handover;
pub mod kintone;
pub mod model;
pub mod notify;
pub mod operator;
pub mod proxy;
pub mod published;
pub mod quota;
pub mod server;
pub mod telemetry;
pub mod tls;
