//! Who calls, and what they may do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::app::{AppSettings, Right};
use crate::error::ApiError;
use crate::head::Head;
use crate::tenant::TenantSettings;

/// Most API tokens that one request may carry.
const TOKENS_MAX: usize = 9;

/// Whose credentials a request carries. kintone prefers a password to tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A user, who may do everything.
    User,
    /// The tokens as sent; which of them is an app's is judged with the app.
    Tokens(Vec<String>),
}

impl Identity {
    pub(crate) fn of(head: &Head, settings: &TenantSettings) -> Result<Self, ApiError> {
        if head.headers.contains_key("x-cybozu-authorization") {
            return match login(head.text("x-cybozu-authorization")) {
                Some((user, password))
                    if !password.is_empty() && settings.users.get(&user) == Some(&password) =>
                {
                    Ok(Self::User)
                }
                Some(_) | None => Err(wrong_password()),
            };
        }
        let tokens: Vec<String> = head
            .headers
            .get_all("x-cybozu-api-token")
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty())
            .collect();
        match tokens.len() {
            0 => Err(ApiError::not_logged_in()),
            1..=TOKENS_MAX => Ok(Self::Tokens(tokens)),
            _ => Err(ApiError::invalid(
                "X-Cybozu-API-Token",
                "Up to 9 API tokens may be specified.",
                "APIトークンは9個まで指定できます。",
            )),
        }
    }

    /// Whether an app may be used in this way.
    pub(crate) fn may(&self, app: &AppSettings, right: Right) -> Result<(), ApiError> {
        let Self::Tokens(tokens) = self else {
            return Ok(());
        };
        let mut of_app = app
            .tokens
            .iter()
            .filter(|token| tokens.contains(&token.value))
            .peekable();
        if of_app.peek().is_none() {
            return Err(foreign_token());
        }
        if of_app.any(|token| token.rights.contains(&right)) {
            return Ok(());
        }
        Err(ApiError::new(
            403,
            "GAIA_NO01",
            "Using this API token, you cannot run the specified API.",
            "このAPIトークンでは、指定したAPIを実行できません。",
        ))
    }

    /// Whether files may be sent and fetched: with a login, or with a token of any app.
    pub(crate) fn may_use_files(&self, settings: &TenantSettings) -> Result<(), ApiError> {
        let Self::Tokens(tokens) = self else {
            return Ok(());
        };
        let known = settings
            .apps
            .iter()
            .flat_map(|app| &app.tokens)
            .any(|token| tokens.contains(&token.value));
        if known { Ok(()) } else { Err(foreign_token()) }
    }
}

/// The user and the password: base64 of `user:password`, split at the first colon.
fn login(header: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(header).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn wrong_password() -> ApiError {
    ApiError::new(
        401,
        "CB_WA01",
        "Password authentication failed. The value in http header of X-Cybozu-Authorization is not valid.",
        "ユーザーのパスワード認証に失敗しました。「X-Cybozu-Authorization」ヘッダーの値が正しくありません。",
    )
}

fn foreign_token() -> ApiError {
    ApiError::new(
        400,
        "GAIA_IA02",
        "The specified API token does not match the API token generated via an app.",
        "指定したAPIトークンは、アプリで生成したAPIトークンと一致しません。",
    )
}
