//! kintone's REST API as a table: each API's path, where it says which app it is about, whether it
//! counts against the app's calls of a day.
//!
//! The paths are those of the official OpenAPI file (<https://github.com/kintone/rest-api-spec>,
//! 20250423000000), and besides them the list of APIs and the search. Not counted is what
//! <https://cybozu.dev/ja/kintone/docs/rest-api/overview/kintone-rest-api-overview/> lists as such.

/// One API, all its methods together: no two of them differ in whether they count.
#[derive(Debug)]
pub(super) struct Api {
    name: &'static str,
    /// Its path as a template.
    plain: &'static str,
    /// The same in a guest space.
    guest: &'static str,
    pub(super) home: Home,
    pub(super) counted: Counted,
}

/// Where the calls of an API say which app they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// Nowhere: they are about no one app.
    None,
    /// `app`.
    App,
    /// `id`, which is an app's only here.
    Id,
    /// `apps[]`, or `apps[].app`.
    Deployment,
    /// `app` for the call that makes a cursor, later ones name the cursor by `id`.
    Cursor,
    /// `requests[].payload.app`.
    Bulk,
    /// In a place that is not read.
    Unread,
}

/// Whether a call counts against the calls that an app may have a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It does, once.
    Yes,
    /// It does not.
    No,
    /// It does not itself, but each of the requests in it is taken to: kintone does not say, and
    /// this is the cautious reading.
    Inner,
    /// It is no API that is known.
    Unknown,
}

/// What to look for in the parameters of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    App,
    Id,
    Deployment,
    Bulk,
    Cursor,
}

/// What is no part of kintone's API.
pub const OTHER: &str = "other";

/// The API at `path`, and its template.
pub(super) fn find(path: &str) -> Option<(&'static Api, &'static str)> {
    let (name, is_guest) = name_of(path)?;
    let api = APIS
        .binary_search_by(|api| api.name.cmp(name))
        .ok()
        .map(|at| &APIS[at])
        .or_else(|| schema(name))?;
    Some((api, if is_guest { api.guest } else { api.plain }))
}

/// The template of a path outside kintone's REST API that services call too: the User API and
/// OAuth. They are about no app and count for none.
pub(super) fn find_common(path: &str) -> Option<&'static str> {
    COMMON.iter().find(|common| **common == path).copied()
}

/// Whether `path` is that of an API that is about one app and counts for it, as those are that
/// may stand in a bulk request.
pub(super) fn is_for_one_app(path: &str) -> bool {
    find(path).is_some_and(|(api, _)| api.home == Home::App && api.counted == Counted::Yes)
}

impl Home {
    /// What to look for in a call by `method`.
    pub(super) fn look(self, method: &http::Method) -> Option<Look> {
        match self {
            Self::None | Self::Unread => None,
            Self::App => Some(Look::App),
            Self::Id => Some(Look::Id),
            Self::Deployment => Some(Look::Deployment),
            Self::Bulk => Some(Look::Bulk),
            Self::Cursor if *method == http::Method::POST => Some(Look::App),
            Self::Cursor => Some(Look::Cursor),
        }
    }
}

/// The part of a path behind `/k/v1/` or `/k/guest/NUMBER/v1/`, and whether it is the latter.
fn name_of(path: &str) -> Option<(&str, bool)> {
    if let Some(name) = path.strip_prefix("/k/v1/") {
        return Some((name, false));
    }
    let (space, name) = path.strip_prefix("/k/guest/")?.split_once("/v1/")?;
    let is_number = !space.is_empty() && space.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some((name, true))
}

/// The schema of another API, which the list of APIs leads to.
fn schema(name: &str) -> Option<&'static Api> {
    (name.starts_with("apis/") && name.ends_with(".json")).then_some(&SCHEMA)
}

macro_rules! api {
    ($name:literal, $home:ident, $counted:ident) => {
        Api {
            name: $name,
            plain: concat!("/k/v1/", $name),
            guest: concat!("/k/guest/{space}/v1/", $name),
            home: Home::$home,
            counted: Counted::$counted,
        }
    };
}

macro_rules! apis {
    ($($name:literal $home:ident $counted:ident,)*) => {
        &[$(api!($name, $home, $counted)),*]
    };
}

static SCHEMA: Api = api!("apis/{api}", None, No);

/// Sorted by name.
static APIS: &[Api] = apis![
    "apis.json" None No,
    "app.json" Id Yes,
    "app/acl.json" App Yes,
    "app/actions.json" App Yes,
    "app/adminNotes.json" App Yes,
    "app/customize.json" App Yes,
    "app/form/fields.json" App Yes,
    "app/form/layout.json" App Yes,
    "app/move.json" App Yes,
    "app/notifications/general.json" App Yes,
    "app/notifications/perRecord.json" App Yes,
    "app/notifications/reminder.json" App Yes,
    "app/plugins.json" App Yes,
    "app/reports.json" App Yes,
    "app/settings.json" App Yes,
    "app/status.json" App Yes,
    "app/views.json" App Yes,
    "apps.json" None No,
    "apps/statistics.json" None No,
    "bulkRequest.json" Bulk Inner,
    "field/acl.json" App Yes,
    "file.json" None No,
    "form.json" App Yes,
    "guests.json" None No,
    "plugin.json" None No,
    "plugin/apps.json" None No,
    "plugins.json" None No,
    "plugins/required.json" None No,
    "preview/app.json" None No,
    "preview/app/acl.json" App Yes,
    "preview/app/actions.json" App Yes,
    "preview/app/adminNotes.json" App Yes,
    "preview/app/customize.json" App Yes,
    "preview/app/deploy.json" Deployment Yes,
    "preview/app/form/fields.json" App Yes,
    "preview/app/form/layout.json" App Yes,
    "preview/app/notifications/general.json" App Yes,
    "preview/app/notifications/perRecord.json" App Yes,
    "preview/app/notifications/reminder.json" App Yes,
    "preview/app/plugins.json" App Yes,
    "preview/app/reports.json" App Yes,
    "preview/app/settings.json" App Yes,
    "preview/app/status.json" App Yes,
    "preview/app/views.json" App Yes,
    "preview/field/acl.json" App Yes,
    "preview/form.json" App Yes,
    "preview/record/acl.json" App Yes,
    "record.json" App Yes,
    "record/acl.json" App Yes,
    "record/assignees.json" App Yes,
    "record/comment.json" App Yes,
    "record/comments.json" App Yes,
    "record/status.json" App Yes,
    "records.json" App Yes,
    "records/acl/evaluate.json" App Yes,
    "records/cursor.json" Cursor Yes,
    "records/status.json" App Yes,
    "search.json" Unread Yes,
    "space.json" None No,
    "space/body.json" None No,
    "space/guests.json" None No,
    "space/members.json" None No,
    "space/thread.json" None No,
    "space/thread/comment.json" None No,
    "spaces/statistics.json" None No,
    "template/space.json" None No,
];

static COMMON: &[&str] = &[
    "/oauth2/authorization",
    "/oauth2/token",
    "/v1/groups.json",
    "/v1/group/users.json",
    "/v1/organizations.json",
    "/v1/organization/users.json",
    "/v1/user/groups.json",
    "/v1/user/organizations.json",
    "/v1/users.json",
    "/v1/users/services.json",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(APIS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn a_guest_space_is_part_of_the_template_but_not_its_number() {
        let template = |path| find(path).map(|(_, template)| template);
        for (path, expected) in [
            ("/k/v1/records.json", "/k/v1/records.json"),
            (
                "/k/guest/42/v1/record.json",
                "/k/guest/{space}/v1/record.json",
            ),
            (
                "/k/v1/preview/app/deploy.json",
                "/k/v1/preview/app/deploy.json",
            ),
            ("/k/v1/apis/records/get.json", "/k/v1/apis/{api}"),
        ] {
            assert_eq!(template(path), Some(expected));
        }
        for other in [
            "/",
            "/k/1/",
            "/k/v1/records.JSON",
            "/K/v1/records.json",
            "/k/v1/records%2ejson",
            "/k/v1//records.json",
            "/k/guest/x/v1/record.json",
            "/k/guest//v1/record.json",
            "/k/v1/",
            "/v1/users.json",
        ] {
            assert_eq!(template(other), None, "{other}");
        }
        assert_eq!(find_common("/oauth2/token"), Some("/oauth2/token"));
    }
}
