//! Which apps a call is about, as far as that is known.

use smallvec::SmallVec;

use crate::model::AppId;

/// Most apps that are told of one call: kintone's own limit for a deployment, its largest.
const APPS_MAX: usize = 300;

/// The apps of one call, in the order in which it names them, and how often it names each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apps {
    named: SmallVec<[(AppId, u32); 1]>,
    knowledge: Knowledge,
}

/// Whether apps are all there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// They are all: the call is about no other app.
    Whole,
    /// There may be others, or the call does not say which it means.
    Part,
}

impl Apps {
    /// Of a call that is about no app.
    pub(crate) const NONE: Self = Self {
        named: SmallVec::new_const(),
        knowledge: Knowledge::Whole,
    };

    /// Of a call of which nothing is known.
    pub(crate) const UNKNOWN: Self = Self {
        named: SmallVec::new_const(),
        knowledge: Knowledge::Part,
    };

    /// Whether there are no others.
    #[must_use]
    pub const fn knowledge(&self) -> Knowledge {
        self.knowledge
    }

    /// The app, if the call is about exactly one.
    #[must_use]
    pub fn only(&self) -> Option<AppId> {
        match (self.knowledge, self.named.as_slice()) {
            (Knowledge::Whole, [(app, _)]) => Some(*app),
            (Knowledge::Whole | Knowledge::Part, _) => None,
        }
    }

    /// Each app that the call names, and how often: the requests of a bulk request that are for
    /// it, otherwise once.
    pub fn iter(&self) -> impl Iterator<Item = (AppId, u32)> + '_ {
        self.named.iter().copied()
    }

    /// One more request for `app`.
    pub(crate) fn add(&mut self, app: AppId) {
        if let Some((_, times)) = self.named.iter_mut().find(|(named, _)| *named == app) {
            *times += 1;
        } else if self.named.len() < APPS_MAX {
            self.named.push((app, 1));
        } else {
            self.knowledge = Knowledge::Part;
        }
    }

    /// `app` is among them, however often it is said.
    pub(crate) fn add_once(&mut self, app: AppId) {
        if !self.named.iter().any(|(named, _)| *named == app) {
            self.add(app);
        }
    }

    /// There is something that could not be read.
    pub(crate) const fn doubt(&mut self) {
        self.knowledge = Knowledge::Part;
    }

    /// What two places of one call say together, each of which may be silent. kintone reads
    /// parameters from the query and from the body; which of the two it believes where they differ
    /// is not known.
    pub(crate) fn agree(query: Option<Self>, body: Option<Self>) -> Self {
        match (query, body) {
            (None, None) => Self::UNKNOWN,
            (Some(apps), None) | (None, Some(apps)) => apps,
            (Some(query), Some(body)) if query == body => query,
            (Some(mut query), Some(body)) => {
                body.iter().for_each(|(app, _)| query.add_once(app));
                query.doubt();
                query
            }
        }
    }
}

/// An app's number as kintone takes it, bare or in quotes: digits, not 0.
pub(super) fn number(text: &[u8]) -> Option<AppId> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text)
        .ok()
        .filter(|_| is_number)?
        .parse();
    number.ok().filter(|number| *number > 0).map(AppId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_make_an_app() {
        assert_eq!(number(b"7"), Some(AppId(7)));
        assert_eq!(number(b"007"), Some(AppId(7)));
        assert_eq!(number(b"18446744073709551615"), Some(AppId(u64::MAX)));
        for no in [
            "",
            "0",
            "-1",
            "+1",
            "1.0",
            "1e3",
            " 1",
            "18446744073709551616",
            "一",
        ] {
            assert_eq!(number(no.as_bytes()), None, "{no:?}");
        }
    }

    #[test]
    fn a_call_that_contradicts_itself_is_about_no_known_app() {
        let of = |app| {
            let mut apps = Apps::NONE;
            apps.add(AppId(app));
            Some(apps)
        };
        assert_eq!(Apps::agree(of(1), of(1)).only(), Some(AppId(1)));
        assert_eq!(Apps::agree(of(1), None).only(), Some(AppId(1)));
        assert_eq!(Apps::agree(None, of(2)).only(), Some(AppId(2)));
        let both = Apps::agree(of(1), of(2));
        assert_eq!(both.only(), None);
        assert_eq!(both.knowledge(), Knowledge::Part);
        assert_eq!(both.iter().count(), 2);
        assert_eq!(Apps::agree(None, None), Apps::UNKNOWN);
    }
}
