//! What the directory's rooms do, seen from Graph's door: one world, requests as a client writes them.

mod applications;
mod directory;
mod examples;
mod grants;
mod queries;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    contract,
    directory::{Directory, GRAPH_APP_ID, ServicePrincipal, User},
    request::{ApiRequest, ApiResponse, Body, Caller},
    token::SigningKeys,
    world::{Behaviour, Tenant, World},
};

/// `Mail.Send`, and `User.Read.All` as app roles.
const MAIL_SEND: &str = "b633e1c5-b582-4048-a93e-9f11b44c7e96";

/// A tenant with Graph's service principal, an administrator, a user, and a calling application.
struct Bench {
    world: World,
    caller: Caller,
    graph: Uuid,
    administrator: Uuid,
    user: Uuid,
}

/// An answer taken apart.
#[derive(Debug)]
struct Seen {
    status: u16,
    body: Value,
    headers: Vec<(&'static str, String)>,
}

impl Seen {
    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.body);
    }
}

impl Bench {
    /// Called by an application that may do everything.
    fn new() -> Self {
        let world = World::new(7, Behaviour::default(), SigningKeys::none());
        let now = world.clock.now();
        let tenant_id = Uuid::new_v4();
        let principal = |app_id: Uuid, name: &str, roles: Value| ServicePrincipal {
            id: Uuid::new_v4(),
            app_id,
            display_name: name.to_owned(),
            account_enabled: true,
            app_role_assignment_required: false,
            app_roles: roles.as_array().cloned().unwrap(),
            scopes: Vec::new(),
            owners: Vec::new(),
            created: now,
            visible_from: now,
            rest: Map::new(),
        };
        let role = json!({
            "id": MAIL_SEND, "value": "Mail.Send", "displayName": "Send mail as any user", "description": "Sends mail",
            "allowedMemberTypes": ["Application"], "isEnabled": true, "origin": "Application",
        });
        let graph = principal(GRAPH_APP_ID, "Microsoft Graph", json!([role]));
        let calling = principal(Uuid::new_v4(), "Administration", json!([]));
        let user = |name: &str, administrator: bool| User {
            id: Uuid::new_v4(),
            user_principal_name: format!("{name}@contoso.example"),
            display_name: name.to_owned(),
            given_name: None,
            surname: None,
            password: None,
            account_enabled: true,
            administrator,
            aliases: Vec::new(),
            sign_in_refusal: None,
            tokens_valid_from: now,
        };
        let (administrator, person) = (user("admin", true), user("alice", false));
        let mut bench = Self {
            caller: Caller {
                tenant: tenant_id,
                app_id: calling.app_id,
                service_principal: calling.id,
                user: None,
                roles: EVERYTHING.iter().map(|name| (*name).to_owned()).collect(),
                scopes: Default::default(),
            },
            graph: graph.id,
            administrator: administrator.id,
            user: person.id,
            world,
        };
        bench.world.tenants.push(Tenant {
            id: tenant_id,
            domain: "contoso.example".into(),
            display_name: "Contoso".into(),
            directory: Directory {
                users: vec![administrator, person],
                service_principals: vec![graph, calling],
                ..Directory::default()
            },
            mailboxes: Default::default(),
            exchange: Default::default(),
        });
        bench
    }

    fn directory(&mut self) -> &mut Directory {
        &mut self.world.tenants[0].directory
    }

    /// Same world, an app-only token with these roles.
    fn with_roles(&mut self, roles: &[&str]) -> &mut Self {
        self.caller.user = None;
        self.caller.roles = roles.iter().map(|name| (*name).to_owned()).collect();
        self.caller.scopes.clear();
        self
    }

    /// Same world, a user's token with these scopes.
    fn with_user(&mut self, user: Uuid, scopes: &[&str]) -> &mut Self {
        self.caller.user = Some(user);
        self.caller.roles.clear();
        self.caller.scopes = scopes.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    fn get(&mut self, url: &str) -> Seen {
        self.call("GET", url, &[], None)
    }

    fn eventually(&mut self, url: &str) -> Seen {
        self.call("GET", url, &[("ConsistencyLevel", "eventual")], None)
    }

    fn post(&mut self, url: &str, body: Value) -> Seen {
        self.call("POST", url, &[], Some(body))
    }

    fn patch(&mut self, url: &str, body: Value) -> Seen {
        self.call("PATCH", url, &[], Some(body))
    }

    fn delete(&mut self, url: &str) -> Seen {
        self.call("DELETE", url, &[], None)
    }

    fn call(&mut self, method: &str, url: &str, headers: &[(&str, &str)], body: Option<Value>) -> Seen {
        let (version, url) = match url.strip_prefix("/beta") {
            Some(rest) => ("beta", rest),
            None => ("v1.0", url),
        };
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let mut all = HeaderMap::new();
        if body.is_some() {
            all.insert("content-type", HeaderValue::from_static("application/json"));
        }
        for (name, value) in headers {
            all.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let request = ApiRequest {
            method: method.parse().unwrap(),
            version: version.to_owned(),
            path: crate::server::segments(path),
            query: crate::server::pairs(query.as_bytes()),
            headers: all,
            body: body.map_or(Bytes::new(), |body| body.to_string().into()),
            caller: Some(self.caller.clone()),
            origin: "https://127.0.0.1:8443".into(),
            request_id: Uuid::new_v4(),
            client_request_id: "client".into(),
        };
        let ApiResponse { status, headers, body } = super::handle(&mut self.world, &request);
        let body = match body {
            Body::Json(body) => body,
            Body::Empty => Value::Null,
            Body::Raw { bytes, .. } => Value::String(String::from_utf8(bytes.to_vec()).unwrap()),
        };
        if version == "v1.0" && !body.is_string() {
            contract::check(method, &request.path.join("/"), status, Some(&body).filter(|body| !body.is_null()));
        }
        Seen { status, body, headers }
    }

    /// A fresh application's JSON.
    fn application(&mut self, name: &str) -> Value {
        self.post("/applications", json!({ "displayName": name, "signInAudience": "AzureADMyOrg" })).expect(201)
    }
}

const EVERYTHING: [&str; 9] = [
    "Application.ReadWrite.All",
    "AppRoleAssignment.ReadWrite.All",
    "DelegatedPermissionGrant.ReadWrite.All",
    "Directory.ReadWrite.All",
    "Directory.Read.All",
    "User.Read.All",
    "AuditLog.Read.All",
    "Policy.ReadWrite.ApplicationConfiguration",
    "CrossTenantInformation.ReadBasic.All",
];

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}
