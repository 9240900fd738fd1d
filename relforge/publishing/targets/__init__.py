"""The places that releases go to, one module each (`relforge.publishing.target.Target`)."""
