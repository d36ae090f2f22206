"""The messages of etcd's v3 API, as protobuf describes them: for where the etcd3 package brings no readable source.

Made from etcd-io/etcd (Apache License 2.0; etcdserverpb/rpc.proto, mvccpb/kv.proto, authpb/auth.proto) as of the
version that etcd3 0.12.0 was made from: each a `FileDescriptorProto`, compressed, in base64.
"""

from __future__ import annotations

__all__ = ["FILES"]

FILES = {
    "kv": (
        "eNptkDFvwjAQhWtMEnrQEllIeOgAkZA6eaD/oCJTGRhCVxTMDWkIthxjKT+j/7jGCFi6nHTvPb37dDCondBGWcXixkmp99kZBl/Y"
        "fZfHM7Ih0Bo7TmbkfcSmMJYGS4s7g65qK3XiPW9QNoFRow4PlQZ1DIlDE4R+EF4gcpdWHoU6vx6xbJHHFzf7JRDlDk+WLaBvO43h"
        "6utyKq5cIpjXWXibvUGvdoFguExvoTv5HBLtgXY+Qv+PZDN4frQlQDfbIn1iAPEqX+dFnpJPDhOpGiGVQdWKH7TyIEpdbcg+Dj/7"
        "+APy91Ni"
    ),
    "auth": (
        "eNplkDGLwkAQhV0TxYx6xEUwpaSKV2zhcbV4nIWdiGIpazJ4ubtkl92IWPvHnSSCoN3Mm8d7HwMgT8WP0EYVirfLWR/CT3C3Fg3v"
        "gZvLDAM2ZlGP+9DR0tqzMknQrJQ+tIz6Rxs4YyfywisDWKHJUmtTlfMJ+WnbXHSd8DYdibpAPFyiPPMuOH94uacOwDMyP+Ie84SS"
        "SQrfwa18HXDXi/m33+AetHbr5WbhM6LwSrFem+GMPAT1BD+BPjU8eqnLibpT/kr0FcAwVpmIlUFlxS8WcSKkTlfs0K7e9HEDMqZP"
        "DQ=="
    ),
    "rpc": (
        "eNq1WklzG8cVJhaCwMNCqklKFGxZ1GiJEil0QsV2KuUqiwu0WBRJAyBdrkoFGQItEhE2zwwo0rnllFNOWf5JfkCu+Qmp5JRTLjnn"
        "ltfbTM9MDymP5YtN9Ly9X3/93mtByZl01ybO2BuTCvW6PZc6p9SZHNWLr0/Feh3sqXci/rZ+CbUmdSfjkUufUbtHHUIAuoOp61Gn"
        "0++tZFYz9/PkCpSGdHgklrJ8aQGKDj3tu/3xaCWHKzlG5NivvA5yDlfyjMj6dw4qTXt0TJv06yl1PVKG3Gt6zqVWBAN+7NCRkFoh"
        "VZgd9Id9T4rUleT5ys8B3LHjdcYO2royi2u19TtruqNrusK1FhLvMVryCyhzTs92jqm3UuCsdy9hbXNisgQVpOnbg/439tGArswh"
        "c5HZj864nfFocL5S5EsseOPpyBNrJb62AgvD/qgzHPc6vjPAnWFf7LPwlzL/8h4sMp6uQ22PBh8r/kdki36sso/WGpQCn4uQ393b"
        "bSzMoF2FjdZWY3d7IYObMLfdED+y1iaA5ugc5F40vkJ6pDlsNFvP93aRAZm3mo2NdmMhyyhe7m0v5EgJZg83dg4aC3nrHKoyciKT"
        "yEMonPBs4jtdXn8/EuZwxt3ApDh1MQNySLqwNjztdpHoBT0/tAdTSiqQH44dylOiyDKER1jkg+UB7E89Y3oh5SkToKUWtV0qU2se"
        "5iYYus7rUy6pyPa4fzxCRR3BNRtZFcwsbYrWr6DMtaZy91agOcvJYy5bDSDbdEA9+q0Oj+YSj5V1BoshManMRak9LkSoyRELilKN"
        "i3qMe2b9NwMlafbehDyCqiN+dLjNUm89+fA9myEfQlkxTaaeDNVKmCXYemR4DEuKQRgsleU452qYMx7esErvTCBOTGX7bOQzbJZg"
        "TjJY/8sAqMihyx9BzZG/Qj6/Z/RZBnyG/BQqPlvg9XWD1z7LJiz7LAa/b13gt1Ft4Pl1g+eKBWGjqFisP+dgbms8nNgOxb0u4Pp0"
        "4HGHa+u3w0Ikmfp/k5MyJgnL2bdgklglj0NOHoc5pA0uCnTqOsxHIXJWfroKlRDoFuT6vIIMBvAVsSDOfVFShI7dY0ZlPYZq2BtE"
        "xsYXBxs7AkafcuRsIowiGu80Wi0E0SqUdvfaHUGVs576EnzXfPSd0dA3o9A3G6AvB+KdxkYLgXizBhURx850hH5Zv8ekDBKW3IO5"
        "rtCDm8MO7rIxzuQ+zLnTbpe6CpSvRRFCnWykfGX3B1MOzxdRWr+FspZA3xKDMOrcINqTKFQkD3AjJJGCoRWzDFT+CVzhvnU9jIqK"
        "hl5cZFS5MTk5d/tdeyC04O1IdMY0xltVKD+z3ROp1roFVfbzxWGiHdYrqCmSVOHCG/ME+bkPVVZldIUPnXDFZn0OFWHZd9diXYH5"
        "1sieuCdjBcnWMSwES6lUXIN5hw7t/qg/Ou4cnXvUldUn6j4ajI/E4bf+koHKl7bXVTHGWq/mH32+IrVFLgHOs8UJg0uA8dqjLh34"
        "vNlkXk4Y3AfzwUUnDuA/MkDiWi69ya9CzcWDHN0wFg8s248x8d3OaOz1X53L4uVTPIf9AVbeLmJcDhH0wWWerj3h9O3zCdULB1Hf"
        "3AXQPiPA7O7tH7QRiypQ3N3bbuw0GBpZ95RzehhYPr9hq6p9yFl/y0BV7k+qNNAlZlX1Jja4J8tCJBG7hit5VXbH0p7jP1mGqr/D"
        "tivhv4RlaIGe0pHnYg3O4KSqqpoGW7UewpUddhU8xc3SC852e0fCB0D2+bYw0PoNEJ06lduaPKVIpAGWstRxxg73tGStSl1Nejp+"
        "7eeY4BYbsAWLIYpUOHYblrmQF5RONgb9U6OmDlyNEr1T3611qaDdH9L2eMdsBsMH1ppJFP9dBq7FmN7tluCXY7bVtMfW8iEj2Ims"
        "WEtyl/h/XIWR16HMF1qe7U3dUChHctMUQyqDfwgFXsComzxS02m6rWdQeMmbfM0KjrQjeyiaqBK/ISl1Dpo74tItiXFBHw8IX8uz"
        "NesOLAhJG72ehgo+Z4ZT/SEDVzSyVO7dgYIYTEiQXgpTS3/uwpygUpWCkQxv5kXxV5MOx6a8yluvYSlMkspqzZ7sBfY8UvYcTHra"
        "5aHvjh7VLI+qb6Fi+j4tXFQ7uNN3/Wu/D0Rf/J71b9NXjn08pD4ms5pNX0yFdXfRMdzfHf5LS2FRXfvpgKp0slSq/orFy8bAdoZK"
        "zcdQEPWm7KDuhdl1WvFjg1Mz80TMJELlsd6ftRkBx6hatDbnvOyCt34GZV0QNhlPG/K239hqPz8UvUcNYLvh/85i1yK45CHT1WfC"
        "6rMXqz+BqnQqLcRxNQkQp9loYX0mwE7lyh8zUFMraacjqu8UCFmDQu+o1f9GzZlqHICZuLwapbIp6fNRj57xekSMUnGpzeamBZ5X"
        "mNcbU++kMWLTRmUrXiBscbvv6qsfwSJbxVTHtiUACQXbGR+2bdd9M3ZEAVXCLefCDtwQSF/GZQVcT6ln5MKjs6xo5LDBSPYZ3FBk"
        "Wyes/N2Xqt7Wlo9hxbeFF1njga5q6sodLLFfDn6UfJ/AdcUny6Ewo6Y0zCidZ+RJIdNpwgHicgTNstgxZoAOm3KZserLMpxsORZO"
        "Teg+fOArZtHYx2Tqu67W7oZdW4X8hMqjWV4na+xJgI2WfDZrD24qiSJORpGBCaqpEccg1NTkuImbIjYqqVOB5ZYIkn8GUglpwVL4"
        "yKQ6+ViEexgVee6VZf6BSmVZMxDC0yetYWxXVEHwBK5Gz2Mq23ZFhpkObCp5z4NzqJ3fVKI+h7rpSH+XDPNPeSohNBCSfh+DI5pL"
        "OKIykQPIeBf5IoUG8JRWKEPgSBLqKJYqsBooxWAulcB9WE1GuTQSf/QhlPzSRnuAK8Pc7l5rf2OrIV7gtvaazYP99kJ2/T9ZyL44"
        "JJswy8fy5IJnkfpFzwfWDPkUcvtTjyS+ktSTXxKQuw1l7XmAXPpiUr/8bUHY1D4bkcRnlHryMwNy78qXha5HbhqG1fpAt76aTKDk"
        "re/BLJ9EkSfqj7phUpYQ7tAMy5q5n/lJZv3vOZjlXTT5AiAY+UStjY2OotbGp0ViR7S5DTGxhIY+0R0xDH1Qqg218IyG3DawRcc8"
        "9TsXE+lRIb+G+cjAhZjYY0Oc+t1LqGKhEdMRY2hCkxZjaMKjFUyPf2Ux38S/fsDUK/njCfKBqf8MysD6zcTvvsVfQkWfHZBbJpbQ"
        "6KFuXUQSFyxafrPg0AzBLDg8MUDBmNFBJ0+MLmqlajSj40MADPCf8lB+afdHHh2xESxDPY6W0WOod7nRYxhqFtHMBhTk+CxCGOr1"
        "6u+bP+reBnODqLexMUN9NZnAF/kZ5NkDC4lAnPYcVK+bPumuiZegqGuhJ6Soa+HHIxTzEorqJYbciIQh/GhT/yDpsxKGp5vlhT/2"
        "iOVFdG4Sy4vYxATz4p9lyLOLmMkOuoSo7FhTHJUdbzAEVGhNAzGwhHvqKFQYOg5x6vQughiYIk159NSZmhAUvA9zsoswmRru2E2m"
        "RlqQQCKWokkSg2Y1SaJWx6LEFhRVgUgSGHRksC4i8YV+BRB0KdE7yThTiN5J5kYHRX8NJN64kAdmbuM8ov7w7Yh9lUdQDfU25F5C"
        "YCPDi/oPLqXzdVCohZseksAcm3TU719OqOeP7IdM+RMeiJjyJ9JMBRITMjI8PkmSGMtI1QeRBIZLMjLaRomMDFoWU0bGxjKmjIx3"
        "PSjag0VDF0MeJvhqnOnUf/yW1L7WN7BkanVIgqCEwU997W3JleKjAv/npo/+D0sdSCk="
    ),
}
"""By name, in the order in which they need each other."""
