//! Forwarding to an inner store.

use std::pin::Pin;
use std::sync::Arc;

use crate::error::StoreError;
use crate::store::SessionStore;

/// Makes a shared store a store.
impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    crate::forward_calls!(this => **this);
}

/// Implements the methods of a [`SessionStore`] that wraps another store: each call is forwarded to the
/// inner store, except for the methods listed after `except`.
///
/// The identifier before `=>` stands for `self` in the expression after it, which is the inner store.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use async_trait::async_trait;
/// use steadfast_core::{RequestHint, Outcome, Patch, RecordId, SessionStore, StoreError, forward_calls};
///
/// /// A store whose records no longer change.
/// #[derive(Debug)]
/// struct Frozen(Arc<dyn SessionStore>);
///
/// #[async_trait]
/// impl SessionStore for Frozen {
///     forward_calls!(this => this.0, except update);
///
///     async fn update(&self, _: RecordId, _: &Patch, _: &RequestHint) -> Result<Outcome, StoreError> {
///         Err(StoreError::writes_refused("the store is frozen"))
///     }
/// }
/// ```
#[macro_export]
macro_rules! forward_calls {
    ($this:ident => $store:expr) => {
        $crate::forward_calls!($this => $store, except);
    };
    ($this:ident => $store:expr, except $($named:ident),*) => {
        $crate::__forward_call!(env [$($named)*] $this $store);
        $crate::__forward_call!(limits [$($named)*] $this $store);
        $crate::__forward_call!(places_sessions [$($named)*] $this $store);
        $crate::__forward_call!(shares_fate [$($named)*] $this $store);
        $crate::__forward_call!(routed [$($named)*] $this $store);
        $crate::__forward_call!(mint [$($named)*] $this $store);
        $crate::__forward_call!(create [$($named)*] $this $store);
        $crate::__forward_call!(load [$($named)*] $this $store);
        $crate::__forward_call!(update [$($named)*] $this $store);
        $crate::__forward_call!(delete [$($named)*] $this $store);
        $crate::__forward_call!(list [$($named)*] $this $store);
        $crate::__forward_call!(delete_all [$($named)*] $this $store);
        $crate::__forward_call!(changes [$($named)*] $this $store);
        $crate::__forward_call!(endings [$($named)*] $this $store);
    };
}

/// Expands to one of the methods, unless it is among the excluded ones.
#[doc(hidden)]
#[macro_export]
macro_rules! __forward_call {
    (env [env $($named:ident)*] $this:ident $store:expr) => {};
    (limits [limits $($named:ident)*] $this:ident $store:expr) => {};
    (places_sessions [places_sessions $($named:ident)*] $this:ident $store:expr) => {};
    (shares_fate [shares_fate $($named:ident)*] $this:ident $store:expr) => {};
    (routed [routed $($named:ident)*] $this:ident $store:expr) => {};
    (mint [mint $($named:ident)*] $this:ident $store:expr) => {};
    (create [create $($named:ident)*] $this:ident $store:expr) => {};
    (load [load $($named:ident)*] $this:ident $store:expr) => {};
    (update [update $($named:ident)*] $this:ident $store:expr) => {};
    (delete [delete $($named:ident)*] $this:ident $store:expr) => {};
    (list [list $($named:ident)*] $this:ident $store:expr) => {};
    (delete_all [delete_all $($named:ident)*] $this:ident $store:expr) => {};
    (changes [changes $($named:ident)*] $this:ident $store:expr) => {};
    (endings [endings $($named:ident)*] $this:ident $store:expr) => {};
    ($call:ident [$other:ident $($named:ident)*] $this:ident $store:expr) => {
        $crate::__forward_call!($call [$($named)*] $this $store);
    };
    (env [] $this:ident $store:expr) => {
        fn env(&self) -> &$crate::Env {
            let $this = self;
            $store.env()
        }
    };
    (limits [] $this:ident $store:expr) => {
        fn limits(&self) -> &$crate::Limits {
            let $this = self;
            $store.limits()
        }
    };
    (places_sessions [] $this:ident $store:expr) => {
        fn places_sessions(&self) -> bool {
            let $this = self;
            $store.places_sessions()
        }
    };
    (shares_fate [] $this:ident $store:expr) => {
        fn shares_fate(&self) -> bool {
            let $this = self;
            $store.shares_fate()
        }
    };
    (routed [] $this:ident $store:expr) => {
        fn routed(&self, routes: &[$crate::RouteLabel]) -> ::std::option::Option<$crate::Routed> {
            let $this = self;
            $store.routed(routes)
        }
    };
    (mint [] $this:ident $store:expr) => {
        fn mint(&self) -> ::std::result::Result<$crate::RecordId, $crate::StoreError> {
            let $this = self;
            $store.mint()
        }
    };
    (create [] $this:ident $store:expr) => {
        fn create<'s, 'f>(
            &'s self,
            id: $crate::RecordId,
            record: $crate::Record,
            policy: $crate::LoginPolicy,
        ) -> $crate::forward::Answer<'f, $crate::Outcome>
        where
            's: 'f,
        {
            let $this = self;
            $store.create(id, record, policy)
        }
    };
    (load [] $this:ident $store:expr) => {
        fn load<'s, 'p, 'h, 'f>(
            &'s self,
            id: $crate::RecordId,
            proof: ::std::option::Option<&'p $crate::Proof>,
            hint: &'h $crate::RequestHint,
        ) -> $crate::forward::Answer<'f, $crate::Lookup>
        where
            's: 'f,
            'p: 'f,
            'h: 'f,
        {
            let $this = self;
            $store.load(id, proof, hint)
        }
    };
    (update [] $this:ident $store:expr) => {
        fn update<'s, 'p, 'h, 'f>(
            &'s self,
            id: $crate::RecordId,
            patch: &'p $crate::Patch,
            hint: &'h $crate::RequestHint,
        ) -> $crate::forward::Answer<'f, $crate::Outcome>
        where
            's: 'f,
            'p: 'f,
            'h: 'f,
        {
            let $this = self;
            $store.update(id, patch, hint)
        }
    };
    (delete [] $this:ident $store:expr) => {
        fn delete<'s, 'd, 'p, 'f>(
            &'s self,
            id: $crate::RecordId,
            deletion: &'d $crate::Deletion<'p>,
        ) -> $crate::forward::Answer<'f, $crate::Deleted>
        where
            's: 'f,
            'd: 'f,
            'p: 'f,
        {
            let $this = self;
            $store.delete(id, deletion)
        }
    };
    (list [] $this:ident $store:expr) => {
        fn list<'s, 'p, 'f>(
            &'s self,
            principal: &'p $crate::Principal,
        ) -> $crate::forward::Answer<'f, ::std::vec::Vec<$crate::SessionInfo>>
        where
            's: 'f,
            'p: 'f,
        {
            let $this = self;
            $store.list(principal)
        }
    };
    (delete_all [] $this:ident $store:expr) => {
        fn delete_all<'s, 'p, 'f>(
            &'s self,
            principal: &'p $crate::Principal,
            revocation: $crate::Revocation,
        ) -> $crate::forward::Answer<'f, u64>
        where
            's: 'f,
            'p: 'f,
        {
            let $this = self;
            $store.delete_all(principal, revocation)
        }
    };
    (changes [] $this:ident $store:expr) => {
        fn changes(&self) -> ::std::option::Option<$crate::ChangeStream> {
            let $this = self;
            $store.changes()
        }
    };
    (endings [] $this:ident $store:expr) => {
        fn endings(
            &self,
        ) -> ::std::option::Option<::std::sync::Arc<dyn $crate::Endings>> {
            let $this = self;
            $store.endings()
        }
    };
}

/// The return type of the trait's methods, written out so that forwarding needs no second box.
#[doc(hidden)]
pub type Answer<'f, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'f>>;
