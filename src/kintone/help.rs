//! Where Cybozu's own help says what a customer has to do.

use crate::model::Account;

/// A page in both languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// In English.
    pub en: &'static str,
    /// In Japanese.
    pub ja: &'static str,
}

/// IP address restrictions: the help of cybozu.com and, beside it, of cybozu.cn.
pub const RESTRICTIONS_CYBOZU: Page = Page {
    en: "https://jp.cybozu.help/general/en/admin/list_security/list_access/ip_restrictions.html",
    ja: "https://jp.cybozu.help/general/ja/admin/list_security/list_access/ip_restrictions.html",
};

/// IP address restrictions: the help of kintone.com.
pub const RESTRICTIONS_KINTONE_COM: Page = Page {
    en: "https://get.kintone.help/general/en/admin/list_security/list_access/ip_restrictions.html",
    ja: "https://get.kintone.help/general/ja/admin/list_security/list_access/ip_restrictions.html",
};

/// The limits of kintone.
pub const LIMITS: Page = Page {
    en: "https://jp.cybozu.help/k/en/admin/limitation/limit.html",
    ja: "https://jp.cybozu.help/k/ja/admin/limitation/limit.html",
};

/// Where addresses are allowed.
#[must_use]
pub fn ip_restrictions(account: &Account) -> Page {
    if account.as_str().ends_with(".kintone.com") {
        RESTRICTIONS_KINTONE_COM
    } else {
        RESTRICTIONS_CYBOZU
    }
}
