defmodule Image.ZeroShot.Serving.LeaseTest do
  # Counts on its mailbox.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.{Servings, Wait}

  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Call.Deadline
  alias Image.ZeroShot.Serving.{Client, Gate, Lease}
  alias Image.ZeroShot.Test.Runner

  @needs %{pictures: 1, decoded_here: 0, prompts: [], parts: 1}

  defp checkout!(opts) do
    assert {:ok, %Lease{} = lease} = Client.checkout(opts, @needs)
    lease
  end

  defp messages, do: self() |> Process.info(:messages) |> elem(1)

  test "holds a place from checkout to checkin, and the facts that its holder needs" do
    opts = Runner.ready(timeout: 60_000)
    start(opts)
    lease = checkout!(opts)
    assert lease.info.name == "stand-in"
    assert Deadline.remaining(lease.deadline) in 1..60_000
    assert lease.decode_until <= lease.deadline
    assert Gate.size(Lease.gate(lease)) == 1
    assert {:ok, %{images: <<7.0::float-32-native>>}} = Client.run(lease, [<<7>>], [])
    assert Gate.size(Lease.gate(lease)) == 1
    assert Client.checkin(lease) == :ok
    assert Gate.size(gate(opts)) == 0
    assert messages() == []
  end

  test "that is renewed has the time anew, for pictures too" do
    opts = Runner.ready(timeout: 1_000)
    start(opts)
    lease = %{checkout!(opts) | deadline: Deadline.new(100), decode_until: Deadline.new(70)}
    renewed = Lease.renew(lease, 60_000)
    assert Deadline.remaining(renewed.decode_until) in 50_000..60_000
    assert_in_delta renewed.deadline - renewed.decode_until, 30, 5
    assert %{deadline: :infinity, decode_until: :infinity} = Lease.renew(lease, :infinity)
    Client.checkin(lease)
  end

  test "runs as often as its holder likes" do
    opts = Runner.ready()
    start(opts)
    lease = checkout!(opts)

    for n <- 1..20 do
      assert {:ok, %{images: <<image::float-32-native>>, texts: <<2.0::float-32-native>>}} =
               Client.run(lease, [<<n>>], ["ab"])

      assert image == n
    end

    Client.checkin(lease)
  end

  test "with nothing to run, nothing is run" do
    opts = Runner.opts(open: :ok)
    start(opts)
    lease = checkout!(opts)

    assert Client.run(lease, [], []) ==
             {:ok, %{images: "", texts: "", truncated: [], news: false}}

    Client.checkin(lease)
    refute_received {:run, _, _, _, _}
  end

  test "a second one of the same process has no place of its own, and takes none away" do
    opts = Runner.ready(max_queue: 1)
    start(opts)
    [first, second] = [checkout!(opts), checkout!(opts)]
    assert {:ok, _} = Client.run(second, [<<1>>], [])
    Client.checkin(second)
    assert Gate.size(gate(opts)) == 1
    refused = Task.async(fn -> Client.checkout(opts, @needs) end)
    assert {:error, %Error{reason: :overloaded}} = await(refused)
    assert {:ok, _} = Client.run(first, [<<1>>], [])
    Client.checkin(first)
    assert Gate.size(gate(opts)) == 0
  end

  test "the end of its holder gives the place back" do
    opts = Runner.ready(max_queue: 1)
    start(opts)
    test = self()

    holder =
      spawn(fn ->
        send(test, {:holds, Client.checkout(opts, @needs)})
        receive do: (:never -> :ok)
      end)

    assert_receive {:holds, {:ok, _lease}}
    assert {:error, %Error{reason: :overloaded}} = Client.checkout(opts, @needs)
    kill(holder)
    eventually(fn -> Gate.size(gate(opts)) == 0 end)
  end

  test "the end of the serving is a message to its holder, and an error of what it runs" do
    opts = Runner.ready()
    server = start(opts)
    %Lease{monitor: monitor} = lease = checkout!(opts)
    kill(server)
    assert_receive {:DOWN, ^monitor, :process, ^server, :killed}
    assert {:error, %Error{reason: :serving_down}} = Client.run(lease, [<<1>>], [])
    assert Client.checkin(lease) == :ok
    assert messages() -- [{:closed, opts.id}] == []
  end

  test "no message of a serving that ends is left after the checkin" do
    opts = Runner.ready()
    server = start(opts)
    lease = checkout!(opts)
    kill(server)
    assert Client.checkin(lease) == :ok
    assert messages() == []
  end

  test "with its time over nothing runs, and with more time it does" do
    opts = Runner.opts(open: :ok)
    server = start(opts)
    lease = checkout!(opts)
    over = Lease.renew(lease, 0)
    assert {:error, %Error{reason: :timeout}} = Client.run(over, [<<1>>], [])
    # The request is late, and never begun: what runs next is another.
    task = Task.async(fn -> Runner.call(opts, [<<2>>]) end)
    assert_receive {:run, ^server, _tag, [<<2>>], []} = run
    Runner.answer(run)
    assert {:ok, _} = await(task)
    assert Lease.renew(lease, :infinity).deadline == :infinity
    Client.checkin(lease)
  end
end
