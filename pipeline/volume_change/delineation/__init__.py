"""Where the changes are: finding, growing, outlining and scoring them."""
