"""The module that has each public name of this package."""

from __future__ import annotations

HOMES = {
    "DevicesMissing": "errors",
    "KineticError": "errors",
    "RemoteFunction": "remote_function",
    "ResultError": "errors",
    "Run": "runs",
    "RunCancelled": "errors",
    "RunCrashed": "errors",
    "RunError": "errors",
    "RunFailed": "errors",
    "RunGroup": "groups",
    "RunPlan": "plan",
    "RunTimedOut": "errors",
    "WaitTimeout": "errors",
    "attach": "runs",
    "attach_group": "groups",
    "list_runs": "runs",
    "run": "decorators",
}
