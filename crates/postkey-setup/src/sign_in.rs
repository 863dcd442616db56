//! The administrator's sign-in: by browser on this machine, by device code anywhere, or as an app that may administer.
//! The token stays in memory and is never stored.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    response::{Html, IntoResponse},
    routing::get,
};
use postkey_base::{ClientId, ClientSecret, Diagnose, Who};
use postkey_identity::{
    AuthorizationParameters, AuthorizationRequest, ClientCredential, FixedToken, RedirectUri, Scope, TenantRef, Token,
    TokenEndpoint, TokenError, TokenSource,
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, oneshot},
};
use url::Url;

use crate::watch::{Event, Watcher};

/// *Microsoft Graph Command Line Tools*, the public client of Microsoft's own setup tools.
pub const GRAPH_COMMAND_LINE_TOOLS: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";

/// Long enough to find the password and the phone.
const SIGN_IN_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How an administrator signs in.
pub enum SignIn {
    /// Authorization code with PKCE; `open` is given the address and may fail, since it is also shown.
    Browser {
        /// Opens a browser, or plays one.
        open: Box<dyn Fn(&Url) + Send + Sync>,
    },
    /// A code to type in a browser anywhere.
    DeviceCode,
    /// An app that may manage applications: for pipelines.
    App {
        /// Its client id.
        client: ClientId,
        /// Its secret.
        secret: ClientSecret,
    },
}

/// A signed-in administrator.
pub struct Administrator {
    /// Good for this run.
    pub tokens: Arc<dyn TokenSource>,
    /// Who, for display; none for an app.
    pub name: Option<String>,
    /// The delegated permissions the sign-in left consented to, as Entra answered them.
    pub consented: Vec<String>,
    /// The client that was signed in to.
    pub client: ClientId,
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Entra said no, or was not reached.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No port on loopback for the browser to come back to.
    #[error("no port on this machine for the browser to come back to")]
    NoPort(#[source] std::io::Error),
    /// The browser never came back.
    #[error("nobody signed in within {} minutes", SIGN_IN_PATIENCE.as_secs() / 60)]
    NobodyCame,
}

impl Diagnose for SignInError {
    fn code(&self) -> &'static str {
        match self {
            Self::Token(cause) => cause.code(),
            Self::NoPort(_) => "setup.no_loopback_port",
            Self::NobodyCame => "setup.nobody_signed_in",
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            Self::Token(cause) => cause.why(),
            Self::NoPort(cause) => Some(cause.to_string()),
            Self::NobodyCame => None,
        }
    }

    fn remedy(&self) -> String {
        match self {
            Self::Token(cause) => cause.remedy(),
            _ => "Run the command again; with --sign-in device-code the browser may be on any machine.".into(),
        }
    }

    fn who(&self) -> Who {
        match self {
            Self::Token(cause) => cause.who(),
            _ => Who::You,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Token(cause) => cause.evidence(),
            _ => Vec::new(),
        }
    }
}

/// Signs an administrator in to `client` (ignored for [`SignIn::App`]) with delegated `scopes` of Graph.
///
/// # Errors
/// What Entra refused, or that nobody came.
pub async fn sign_in(
    endpoint: &TokenEndpoint,
    tenant: &TenantRef,
    client: ClientId,
    scopes: &[&str],
    how: &SignIn,
    watcher: &dyn Watcher,
) -> Result<Administrator, SignInError> {
    let resource = endpoint.cloud().graph_resource.trim_end_matches('/').to_owned();
    let wanted: Vec<String> = scopes.iter().map(|scope| format!("{resource}/{scope}")).collect();
    let scope: Scope = wanted.join(" ").parse().expect("names of permissions are printable and not .default");
    let scope = scope.signed_in();
    let (token, client) = match how {
        SignIn::Browser { open } => (by_browser(endpoint, tenant, client, scope, open, watcher).await?, client),
        SignIn::DeviceCode => {
            let code = endpoint.start_device_code(tenant, client, &scope).await?;
            watcher.notice(Event::DeviceCode {
                address: &code.verification_uri,
                code: &code.user_code,
                until: code.expires_at,
            });
            (endpoint.await_device_code(&code, pending()).await?, client)
        }
        SignIn::App { client, secret } => {
            let credential = ClientCredential::Secret(secret.clone());
            let scope = endpoint.cloud().graph_scope();
            (endpoint.client_credentials(tenant, *client, &credential, &scope, None).await?, *client)
        }
    };
    let prefix = format!("{resource}/");
    let consented = token
        .scope
        .iter()
        .flat_map(|scope| scope.split(' '))
        .map(|scope| scope.strip_prefix(&prefix).unwrap_or(scope).to_owned())
        .filter(|scope| !matches!(scope.as_str(), "openid" | "profile" | "email" | "offline_access" | ""))
        .collect();
    Ok(Administrator {
        name: token.id.as_ref().and_then(|id| id.preferred_username.clone()),
        tokens: Arc::new(FixedToken::new(token.access, token.expires_at, endpoint.clock().clone())),
        consented,
        client,
    })
}

type Answers = Arc<Mutex<Option<oneshot::Sender<Vec<(String, String)>>>>>;

async fn by_browser(
    endpoint: &TokenEndpoint,
    tenant: &TenantRef,
    client: ClientId,
    scope: Scope,
    open: &(dyn Fn(&Url) + Send + Sync),
    watcher: &dyn Watcher,
) -> Result<Token, SignInError> {
    // Loopback only, a port of the system's choice: Entra ignores the port of a registered http://localhost.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(SignInError::NoPort)?;
    let port = listener.local_addr().map_err(SignInError::NoPort)?.port();
    let redirect: RedirectUri =
        format!("http://localhost:{port}").parse().expect("a loopback address is a valid redirect URI");
    let request = AuthorizationRequest::new(
        endpoint.cloud(),
        AuthorizationParameters {
            tenant: tenant.clone(),
            client,
            redirect,
            scope,
            prompt: None,
            login_hint: None,
            claims: None,
        },
    );
    let (answered, answer) = oneshot::channel();
    let waiting: Answers = Arc::new(Mutex::new(Some(answered)));
    let pages = Router::new().route("/", get(come_back)).with_state((waiting, Arc::new(request.state.clone())));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        // The listener dies with this sign-in; an accept error only means that nobody comes back.
        let _ = axum::serve(listener, pages).with_graceful_shutdown(async { drop(stopped.await) }).await;
    });
    watcher.notice(Event::OpenBrowser(&request.url));
    open(&request.url);
    let came = tokio::time::timeout(SIGN_IN_PATIENCE, answer).await;
    let _ = stop.send(());
    // The page must reach the browser before the server goes; a browser that keeps its connection open is left alone.
    let abort = server.abort_handle();
    if tokio::time::timeout(Duration::from_secs(2), server).await.is_err() {
        abort.abort();
    }
    let parameters = came.ok().and_then(Result::ok).ok_or(SignInError::NobodyCame)?;
    let code =
        request.answer(endpoint.cloud(), parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    Ok(endpoint.redeem_code(&request, &code, None).await?)
}

/// The browser is back. An answer that does not carry this sign-in's state is some other page's, and changes nothing.
async fn come_back(
    State((waiting, state)): State<(Answers, Arc<String>)>,
    Query(parameters): Query<HashMap<String, String>>,
) -> impl IntoResponse {
    if parameters.get("state") != Some(&*state) {
        return (StatusCode::BAD_REQUEST, Html(page("This page belongs to no sign-in", "Start again from postkey.")));
    }
    let failed = parameters.contains_key("error");
    if let Some(answered) = waiting.lock().await.take() {
        let _ = answered.send(parameters.into_iter().collect());
    }
    let text = if failed {
        page("You are not signed in", "postkey tells in its own window what Entra answered. You may close this page.")
    } else {
        page("You are signed in", "postkey goes on in its own window. You may close this page.")
    };
    (StatusCode::OK, Html(text))
}

fn page(title: &str, text: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem}}</style></head>\
         <body><h1>{title}</h1><p>{text}</p></body></html>"
    )
}

/// How to take back what the sign-in left behind.
pub fn how_to_forget(administrator: &Administrator) -> Option<String> {
    (!administrator.consented.is_empty()).then(|| {
        let client = administrator.client.to_string();
        let page = if client == GRAPH_COMMAND_LINE_TOOLS { "Microsoft Graph Command Line Tools" } else { "(that client)" };
        format!(
            "The sign-in left this consent in the tenant, for the public client {client}: {}. To remove it: Enterprise \
             applications > {page} > Permissions > Review permissions, or delete that enterprise application if nothing \
             else uses it.",
            administrator.consented.join(", ")
        )
    })
}
