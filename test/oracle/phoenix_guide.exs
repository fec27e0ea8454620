# The guide "Phoenix" on the real Phoenix: makes its changes in a new project, and prints the files that it wrote.
#
#     mix phx.new my_app --no-ecto --no-mailer --no-gettext
#     MIX_ENV=test mix run test/oracle/phoenix_guide.exs my_app
#
# A change that does not fit into what Phoenix generates ends it. Then add `:image_zero_shot` to the `deps` of the project and
# the guide's two routes to its router, and see that these pass, and that the page at / takes pictures:
#
#     mix compile --warnings-as-errors
#     mix test test/my_app_web/controllers/label_controller_test.exs
#     mix phx.server

alias Image.ZeroShot.Test.PhoenixGuide

[root] = System.argv()

generated =
  for path <- Path.wildcard(Path.join(root, "{config,lib,test}/**/*.{ex,exs}")),
      into: %{},
      do: {Path.relative_to(path, root), {1, File.read!(path)}}

for {path, {_line, code} = file} <- PhoenixGuide.project(generated), generated[path] != file do
  target = Path.join(root, path)
  File.mkdir_p!(Path.dirname(target))
  File.write!(target, code)
  IO.puts(path)
end
