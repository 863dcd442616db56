//! Microsoft Graph: one file per resource, paging, throttling.
