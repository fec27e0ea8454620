excluded = [:packaging, :endurance]
ExUnit.start(exclude: excluded)

for tag <- excluded, tag not in ExUnit.configuration()[:include] do
  IO.puts("Tests tagged #{inspect(tag)} are left out; run them with `mix test --include #{tag}`.")
end
