excluded = [:packaging, :postgres, :browser, :endurance]

# On a busy machine a message may take seconds and a test minutes; the defaults are 0.1 s and 60 s.
ExUnit.start(exclude: excluded, assert_receive_timeout: 30_000, timeout: 600_000)

for tag <- excluded, tag not in ExUnit.configuration()[:include] do
  IO.puts("Tests tagged #{inspect(tag)} are left out; run them with `mix test --include #{tag}`.")
end
