#!/bin/sh
# Lets the pods of one namespace log in at Consul with their service accounts: each may register and find the service
# that is called as its account, and find all others.
#
#   CONSUL_HTTP_ADDR=... CONSUL_HTTP_TOKEN_FILE=... sh auth-method.sh NAMESPACE CA_FILE JWT_FILE [KUBERNETES_URL]
#
# CA_FILE and JWT_FILE hold what the secret consul-token-review of rbac.yaml holds as ca.crt and token. The token for
# Consul needs acl:write. It can be run again.
set -eu
namespace=$1 ca=$2 jwt=$3 kubernetes=${4:-https://kubernetes.default.svc}
method=kubernetes

action=create
if consul acl auth-method read -name "$method" >/dev/null 2>&1; then action=update; fi
consul acl auth-method "$action" -name "$method" $([ "$action" = update ] || echo -type kubernetes) \
  -description "pods, by their service accounts" -max-token-ttl 24h \
  -kubernetes-host "$kubernetes" -kubernetes-ca-cert "@$ca" -kubernetes-service-account-jwt "$(cat "$jwt")"

# One rule for each namespace: the service's name is the account's.
selector="serviceaccount.namespace==\"$namespace\""
if consul acl binding-rule list -method "$method" | grep -qF "$selector"; then
  echo "there is a rule for $namespace already"
else
  consul acl binding-rule create -method "$method" -bind-type service \
    -bind-name '${serviceaccount.name}' -selector "$selector"
fi
