//! One round of echoes, from one address.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::echo::{Means, Trouble};
use super::judge::{Answer, Finding, judge};
use super::rules::Rules;
use crate::egress::resolve::Resolver;
use crate::egress::source::{Addresses, Source};
use crate::model::Bind;
use crate::tls::Outbound;

/// What the verifier works with.
pub(in crate::egress) struct Around {
    pub(in crate::egress) addresses: Arc<Addresses>,
    pub(in crate::egress) resolver: Resolver,
    pub(in crate::egress) allow_networks: Vec<Ipv4Net>,
    pub(in crate::egress) tls: Arc<ArcSwap<Outbound>>,
    /// Closes idle connections from an address.
    pub(in crate::egress) close: Box<dyn Fn(Bind) + Send + Sync>,
}

/// Whom a round asks, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Every echo, until each has answered or may answer no more.
    All,
    /// Those that are not known to be silent, only until it is certain what they mean: somebody waits. One
    /// place an echo; `Some`: it is not asked, and this is taken for its answer.
    Enough(Vec<Option<Answer>>),
}

/// What a round of one address has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the answers mean.
    pub finding: Finding,
    /// What each echo said, by its scheme, host and port.
    pub answers: Vec<(String, Answer)>,
}

/// The same, with the echoes that have not answered yet.
pub(super) struct Heard {
    pub(super) finding: Finding,
    pub(super) answers: Vec<(String, Option<Answer>)>,
}

impl Asking {
    /// What is enough, by what each echo said last. Where that is not known of each, or none of them has
    /// answered, all are asked.
    pub(super) fn enough(rules: &Rules, last: &[(String, Answer)]) -> Self {
        let names = rules.echoes.iter().map(|echo| &echo.name);
        let are_known = names.eq(last.iter().map(|(echo, _)| echo));
        let silent = last.iter().map(|(_, answer)| match answer {
            Answer::Saw(_) => None,
            Answer::Nothing(trouble) => Some(Answer::Nothing(*trouble)),
        });
        let silent: Vec<_> = silent.collect();
        if are_known && silent.contains(&None) {
            Self::Enough(silent)
        } else {
            Self::Enough(vec![None; rules.echoes.len()])
        }
    }
}

impl Around {
    /// Asks echoes from `source`, all at once; tells what that means as soon as it is certain.
    pub(super) async fn ask(
        self: &Arc<Self>,
        rules: &Arc<Rules>,
        source: Source,
        whom: Asking,
        mut decide: impl FnMut(Finding),
    ) -> Heard {
        let count = rules.echoes.len();
        let (mut answers, is_enough) = match whom {
            Asking::All => (vec![None; count], false),
            Asking::Enough(answers) => (answers, true),
        };
        let mut asking = JoinSet::new();
        for at in (0..count).filter(|at| answers[*at].is_none()) {
            let (this, rules) = (Arc::clone(self), Arc::clone(rules));
            asking.spawn(async move { (at, this.ask_one(&rules, at, source.bind).await) });
        }
        let mut finding = None;
        while let Some(ended) = asking.join_next().await {
            // An echo whose task has died says nothing, which is seen at the end.
            let Ok((at, answer)) = ended else { continue };
            answers[at] = Some(answer);
            if finding.is_none() {
                finding = judge(source.published.0, &answers);
                finding.into_iter().for_each(&mut decide);
            }
            if is_enough && finding.is_some() {
                break;
            }
        }
        let finding = finding.unwrap_or_else(|| {
            let silent = Answer::Nothing(Trouble::Broken);
            for answer in &mut answers {
                answer.get_or_insert(silent);
            }
            let finding = judge(source.published.0, &answers).unwrap_or(Finding::Nothing);
            decide(finding);
            finding
        });
        let names = rules.echoes.iter().map(|echo| echo.name.clone());
        Heard {
            finding,
            answers: names.zip(answers).collect(),
        }
    }

    async fn ask_one(&self, rules: &Rules, at: usize, bind: Bind) -> Answer {
        let tls = self.tls.load_full();
        let means = Means {
            resolver: &self.resolver,
            allow_networks: &self.allow_networks,
            tls: &tls,
        };
        let answer = timeout(rules.timeout, rules.echoes[at].ask(bind, &means)).await;
        answer.unwrap_or(Answer::Nothing(Trouble::Timeout))
    }
}

impl From<Heard> for Found {
    fn from(heard: Heard) -> Self {
        let answers = heard.answers.into_iter();
        let silent = Answer::Nothing(Trouble::Broken);
        Self {
            finding: heard.finding,
            answers: answers
                .map(|(echo, answer)| (echo, answer.unwrap_or(silent)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Verify, Vouching};

    const SAW: Answer = Answer::Saw(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const SILENT: Answer = Answer::Nothing(Trouble::Timeout);

    #[test]
    fn echoes_that_were_silent_last_are_left_out_while_another_answers() {
        let rules = Rules::new(&Verify {
            urls: vec!["http://192.0.2.1/".into(), "http://192.0.2.2/".into()],
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            unknown_for: Duration::from_secs(900),
            connections: Vouching::Each,
            connection_pause: Duration::from_millis(50),
        });
        let named = |first: Answer, second: Answer| {
            let answers = [("http://192.0.2.1", first), ("http://192.0.2.2", second)];
            answers.map(|(echo, answer)| (echo.to_owned(), answer))
        };
        let enough = |last: &[(String, Answer)]| Asking::enough(&rules, last);
        let all = Asking::Enough(vec![None, None]);
        assert_eq!(enough(&[]), all);
        assert_eq!(enough(&named(SAW, SAW)), all);
        assert_eq!(
            enough(&named(SAW, SILENT)),
            Asking::Enough(vec![None, Some(SILENT)])
        );
        assert_eq!(enough(&named(SILENT, SILENT)), all);
        assert_eq!(enough(&named(SAW, SILENT)[1..]), all, "others than before");
    }
}
